"""Start a headless Chromium that reaches no network, for printing and for the tests."""

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")
DRIVERS = ("chromedriver", "/usr/lib/chromium/chromedriver", "/usr/lib/chromium-browser/chromedriver")
ARGUMENTS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync --hide-scrollbars"
)


def find(names):
    """Return the path of the first program of some names that is installed, or None."""
    return next((found for name in names if (found := shutil.which(name))), None)


def missing():
    """Return why no browser can be started, or an empty string."""
    chromium, driver = find(NAMES), find(DRIVERS)
    return "" if chromium and driver else f"Chromium and its driver are needed; found {chromium} and {driver}"


def start(profile, logs=False):
    """Start the browser with a fresh profile in the folder ``profile``; it reaches files and this machine only.

    Args:
        profile: An empty folder.
        logs: Whether to record the console and the requests.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = find(NAMES)
    for argument in ARGUMENTS.split():
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    options.add_argument(f"--user-data-dir={profile}")
    if logs:
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=find(DRIVERS)))
    browser.set_page_load_timeout(180)
    browser.set_script_timeout(180)
    return browser
