"""The bibliography: author and year as labels, linked numbers, and one form for text and list."""

import re

from pybtex.plugin import register_plugin
from pybtex.richtext import Text
from pybtex.style.formatting.unsrt import Style as UnsrtStyle
from pybtex.style.labels import BaseLabelStyle
from pybtex.style.names.plain import NameStyle
from pybtex.style.sorting.author_year_title import SortingStyle
from sphinxcontrib.bibtex.plugin import register_plugin as register_citation
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle
from sphinxcontrib.bibtex.style.referencing.basic_label import BasicLabelParentheticalReferenceStyle


class Labels(BaseLabelStyle):
    """Author and year, as in the text: [Evans and Gariepy, 2015]; letters tell equal ones apart."""

    def format_labels(self, sorted_entries):
        found = [label_of(entry) for entry in sorted_entries]
        seen = {}
        for text in found:
            twice = found.count(text) > 1
            seen[text] = seen.get(text, -1) + 1
            yield text + "abcdefgh"[seen[text]] if twice else text


def label_of(entry):
    names = [" ".join([*p.prelast_names, *p.last_names]) for p in entry.persons.get("author", [])]
    names = [re.sub(r"[{}]", "", _unescape(name)) for name in names]
    if len(names) > 2 or names[-1:] == ["others"]:
        names = [f"{names[0]} et al."]
    return f"{' and '.join(names)}, {entry.fields.get('year', 'n.d.')}"


def _unescape(text):
    return str(Text.from_latex(text))


class Style(UnsrtStyle):
    """Entries sorted by author, with linked DOI or arXiv number; labels as in the text."""

    default_sorting_style = SortingStyle
    default_label_style = Labels
    default_name_style = NameStyle

    def __init__(self, **options):
        super().__init__(**options)
        self.sort = SortingStyle().sort
        self.format_labels = Labels().format_labels


class Citation(AuthorYearReferenceStyle):
    """A citation in brackets is the label of the list, so that the two always agree; one in the text names the year."""

    def __post_init__(self):
        super().__post_init__()
        brackets = BasicLabelParentheticalReferenceStyle(bracket=self.bracket_parenthetical)
        for name in brackets.role_names():
            self.role_style[name] = brackets


def _configure(app, config):
    register_citation("sphinxcontrib.bibtex.style.referencing", "nf_author_year", Citation, force=True)
    config.bibtex_reference_style = "nf_author_year"
    register_plugin("pybtex.style.formatting", "nf_author_year", Style, force=True)
    config.bibtex_default_style = "nf_author_year"


def setup(app):
    app.connect("config-inited", _configure, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
