/* "Try to break it": two buttons between a question and its answer, which stands in the page and is shown after a guess.
   Without this script the answers are simply there. */
(() => {
  "use strict";

  function button(word, ask) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "nf-guess";
    made.textContent = word;
    made.setAttribute("aria-pressed", "false");
    made.addEventListener("click", () => guess(ask, made));
    return made;
  }

  function guess(ask, chosen) {
    if (!ask.classList.contains("nf-open")) return;
    const right = chosen.textContent === ask.dataset.truth;
    ask.classList.remove("nf-open");
    for (const other of ask.querySelectorAll(".nf-guess")) other.setAttribute("aria-disabled", "true");
    chosen.setAttribute("aria-pressed", "true");
    // what is put into a live region is read aloud
    const told = ask.querySelector("[aria-live]"), verdict = ask.querySelector(".nf-verdict");
    const first = verdict.firstElementChild, word = document.createElement("span");
    word.className = "nf-right";
    word.textContent = right ? "You are right. " : "Not so. ";
    first.prepend(word);
    told.append(...verdict.children);
    verdict.remove();
    told.className = "nf-verdict";
  }

  function prepare(ask, k) {
    const question = ask.querySelector(".nf-question"), told = document.createElement("div");
    const guesses = document.createElement("span");
    question.id ||= `nf-question-${k}`;
    guesses.className = "nf-guesses";
    guesses.setAttribute("role", "group");
    guesses.setAttribute("aria-labelledby", question.id);
    guesses.append(button("caught", ask), button("missed", ask));
    told.setAttribute("aria-live", "polite");
    question.after(guesses);
    ask.append(told);
    ask.classList.add("nf-open");
  }

  /* a link to what stands in a fold opens it */
  function reveal() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    let closed = false;
    for (let e = target.parentElement; e; e = e.parentElement) {
      if (e.tagName === "DETAILS" && !e.open) closed = e.open = true;
    }
    if (closed) target.scrollIntoView();
  }

  document.querySelectorAll(".nf-ask").forEach(prepare);
  addEventListener("hashchange", reveal);
  reveal();
})();
