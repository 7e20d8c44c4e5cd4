"""Spreadsheets say what whoever opens them sees: formats, merged and hidden cells, tables; and bounds hold."""

from collections.abc import Callable, Sequence

import pytest
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.number_formats import shown, shown_text
from cloister_retriever.parsing.reader import Reader

from tests.support.workbooks import Cell, excel, excel_97, excel_binary, opendocument, relationships

SHOWN = [
    *((0.5, "0%", "50%"), (0.5, "0 %", "50 %"), (-0.1234, "0.00%", "-12.34%"), (0.5, "General", "0.5")),
    *(
        (45123, "yyyy-mm-dd", "2023-07-16"),
        (45123, "dd.mm.yyyy", "16.07.2023"),
        (45123.5, "d/m/yy h:mm", "16/7/23 12:00"),
    ),
    *((43832, "[$-407]d. mmmm yyyy", "2. Januar 2020"), (43832, "dddd, mmmm dd, yyyy", "Thursday, January 02, 2020")),
    *((43832, "[$-F800]dddd, mmmm dd, yyyy", "2020-01-02"), (60, "yyyy-mm-dd", "1900-02-29")),
    *((1234.5, "#,##0.00", "1,234.50"), (1234.567, "$#,##0.00", "$1,234.57"), (2.675, "0.00", "2.68")),
    *((-1234.5, "#,##0.00;(#,##0.00)", "(1,234.50)"), (-1234.5, "#,##0.00;[Red]-#,##0.00", "-1,234.50")),
    *((1234.5, '#,##0.00\\ "\u20ac"', "1,234.50 \u20ac"), (1234.5, "[$\u20ac-407]#,##0.00", "\u20ac1,234.50")),
    (1234.5, '_-* #,##0.00\\ "\u20ac"_-;\\-* #,##0.00\\ "\u20ac"_-;_-* "-"??\\ "\u20ac"_-;_-@_-', "1,234.50 \u20ac"),
    *(
        (0.4375, "h:mm AM/PM", "10:30 AM"),
        (0.75, "hh:mm:ss", "18:00:00"),
        (1.5, "[h]:mm", "36:00"),
        (0.5, "mm:ss.0", "00:00.0"),
    ),
    *(
        (0.125, "# ?/?", "1/8"),
        (2.5, "# ?/?", "2 1/2"),
        (12345, "0.00E+00", "1.23E+04"),
        (12345, "##0.0E+0", "12.3E+3"),
    ),
    *((1234567, '0.0,,"M"', "1.2M"), (1234567, "#,##0,", "1,235"), (1234567.891, "#,##0.0##", "1,234,567.891")),
    *((7, "000", "007"), (5551234567, "(000) 000-0000", "(555) 123-4567"), (3, '0" pcs"', "3 pcs")),
    *((3, '[>2]"many";"few"', "many"), (1, '[>2]"many";"few"', "few"), (5, ";;;", ""), (0, '0;-0;"none"', "none")),
    *((-5, "yyyy", "-5"), (45123, "@", "45123"), (5, "0" * 300, "5"), (1 / 3, "General", "0.333333333333333")),
]


@pytest.mark.parametrize(("value", "code", "text"), SHOWN)
def test_a_number_is_shown_as_its_format_says(value: float, code: str, text: str) -> None:
    assert shown(value, code) == text


def test_a_format_counts_days_from_1904_and_says_what_stands_around_a_text() -> None:
    assert shown(0, "yyyy-mm-dd", since_1904=True) == "1904-01-01"
    assert shown_text("a", '0;0;0;"<"@">"') == "<a>"
    assert shown_text("a", "0.00") == "a"


@pytest.mark.parametrize("number", ["\u00b2", "9" * 5000, "-1", ""])
def test_a_number_of_a_row_a_style_or_a_text_that_is_none_damages_nothing(number: str) -> None:
    sheet = (
        f'<sheetData><row r="{number}"><c s="{number}"><v>5</v></c><c t="s"><v>{number}</v></c>'
        '<c t="inlineStr"><is><t>words</t></is></c></row></sheetData>'
    )
    assert read(excel({"S": sheet})).text == "S\n\n5 | words"


@pytest.mark.parametrize(
    "code", ["[" * 250, '"' * 249, "\\" * 99, "0," * 120, "?" * 250, "m" * 250, "#.#.#/#E+0", "y;" * 100]
)
def test_a_format_that_is_none_still_shows_something_at_once(code: str) -> None:
    assert isinstance(shown(12345.678, code), str)


def read(content: bytes, name: str = "a.xlsx") -> Document:
    return Reader(16 * 1024 * 1024).read(content, name)


CELLS = [
    *(Cell("A1", "What"), Cell("B1", "Value"), Cell("C1", "Since")),
    *(Cell("A2", "share"), Cell("B2", 0.5, "0%"), Cell("C2", 45123, "dd.mm.yyyy")),
    *(Cell("A3", "price"), Cell("B3", 1234.5, '#,##0.00\\ "\u20ac"'), Cell("C3", 0.75, "hh:mm")),
    *(Cell("A4", "done"), Cell("B4", True), Cell("C4", "#DIV/0!")),
]


@pytest.mark.parametrize("make", [excel_binary, excel_97, lambda cells: excel({"Sheet": cells})])
def test_a_cell_is_read_as_it_is_seen_whatever_keeps_it(make: Callable[[Sequence[Cell]], bytes]) -> None:
    document = read(make(CELLS))
    assert document.text.splitlines() == [
        *("Sheet", "", "What | Value | Since", "What: share | Value: 50% | Since: 16.07.2023"),
        *("What: price | Value: 1,234.50 \u20ac | Since: 18:00", "What: done | Value: TRUE | Since: #DIV/0!"),
    ]
    assert document.notes == []


def test_a_cell_of_opendocument_is_what_it_shows_and_else_its_value() -> None:
    def cell(kind: str, shown: str = "", **values: str) -> str:
        said = "".join(f' office:{name.replace("_", "-")}="{value}"' for name, value in values.items())
        text = f"<text:p>{shown}</text:p>" if shown else ""
        return f'<table:table-cell office:value-type="{kind}"{said}>{text}</table:table-cell>'

    row = cell("percentage", "50 %", value="0.5") + cell("date", "16.07.23", date_value="2023-07-16")
    bare = cell("percentage", value="0.5") + cell("date", date_value="2023-07-16")
    bare += cell("currency", value="12.5", currency="EUR") + cell("time", time_value="PT18H05M00S")
    bare += cell("boolean", boolean_value="true")
    rows = f"<table:table-row>{row}</table:table-row><table:table-row>{bare}</table:table-row>"
    text = read(opendocument(f'<table:table table:name="T">{rows}</table:table>'), "a.ods").text
    assert text == "T\n\n50 % | 16.07.23\n50 % | 2023-07-16 | 12.5 EUR | 18:05:00 | TRUE"


def test_the_last_cell_of_a_sheet_costs_one_cell() -> None:
    cells = [Cell("A1", "first"), Cell("XFD1048576", "the very last")]
    for content in (excel({"Sheet": cells}), excel_binary(cells)):
        assert read(content).text == "Sheet\n\nfirst\nthe very last"
    far = (
        '<table:table-row table:number-rows-repeated="1048574"><table:table-cell/></table:table-row><table:table-row>'
        '<table:table-cell table:number-columns-repeated="16383"/>'
        "<table:table-cell><text:p>the very last</text:p></table:table-cell></table:table-row>"
    )
    assert read(opendocument(f'<table:table table:name="T">{far}</table:table>'), "a.ods").text == "T\n\nthe very last"


def test_a_row_that_says_it_is_repeated_a_million_times_is_read_a_thousand_times_and_told() -> None:
    row = '<table:table-row table:number-rows-repeated="1000000"><table:table-cell table:number-columns-repeated="{}">'
    cell = f"{row.format(1)}<text:p>again</text:p></table:table-cell></table:table-row>"
    document = read(opendocument(f'<table:table table:name="T">{cell}</table:table>'), "a.ods")
    assert document.text.count("again") == 1_000
    assert document.notes == ["The sheet T has rows that say they are repeated more often than they are read."]


def test_a_value_that_spans_rows_is_said_by_each_of_them() -> None:
    rows = [("Town", "Name"), ("Ulm", "Ada"), ("", "Ben"), ("", "Cora"), ("Bonn", "Dan")]
    cells = "".join(
        f'<row r="{at}">'
        + "".join(
            f'<c r="{column}{at}" t="str"><v>{text}</v></c>' for column, text in zip("AB", row, strict=True) if text
        )
        + "</row>"
        for at, row in enumerate(rows, 1)
    )
    merged = f'<sheetData>{cells}</sheetData><mergeCells count="1"><mergeCell ref="A2:A4"/></mergeCells>'
    assert read(excel({"S": merged})).text.splitlines()[2:] == [
        *("Town | Name", "Town: Ulm | Name: Ada", "Town: Ulm | Name: Ben", "Town: Ulm | Name: Cora"),
        "Town: Bonn | Name: Dan",
    ]


def test_what_is_hidden_is_read_and_told() -> None:
    rows = '<row><c t="str"><v>seen</v></c></row><row hidden="1"><c t="str"><v>unseen</v></c></row>'
    document = read(
        excel({"A": f"<sheetData>{rows}</sheetData>", "B": [Cell("A1", "secret")]}, states={"B": "veryHidden"})
    )
    assert document.text == "A\n\nseen\nunseen\n\nB\n\nsecret"
    assert document.notes == [
        "The sheet B is hidden, and read all the same.",
        "The sheet A has rows or columns that are hidden, and read all the same.",
    ]


def test_a_formula_is_its_last_value_and_one_without_is_told() -> None:
    cells = '<c r="A1" t="str"><f>B1</f><v>kept</v></c><c r="B1"><f>1+1</f></c><c r="C1"><f>1/2</f><v>0.5</v></c>'
    document = read(excel({"S": f'<sheetData><row r="1">{cells}</row></sheetData>'}))
    assert document.text == "S\n\nkept | 0.5"
    assert document.notes == [
        "1 formula has no value yet: open the spreadsheet in the program that it is for, and save it."
    ]


def test_tables_of_one_sheet_have_heads_of_their_own_below_their_titles() -> None:
    rows = [
        *(["Report of May"], ["by Ada"], ["Name", "Days"], ["Ada", 25.0], ["Ben", 20.0], []),
        *(["City", "Mayor"], ["Ulm", "Cora"], ["Bonn", "Dan"], [], ["Kiel", "Eva"], [], ["Prices"]),
        *(["Item", "Euro", "Note"], ["Pump", 12.0, "new", "urgent"]),
    ]
    cells = [
        Cell(f"{column}{at}", value)
        for at, row in enumerate(rows, 1)
        for column, value in zip("ABCD", row, strict=False)  # type: ignore[call-overload] # rows of either
    ]
    assert [line for line in read(excel({"S": cells})).text.splitlines() if line] == [
        *("S", "Report of May", "by Ada", "Name | Days", "Name: Ada | Days: 25", "Name: Ben | Days: 20"),
        *(
            "City | Mayor",
            "City: Ulm | Mayor: Cora",
            "City: Bonn | Mayor: Dan",
            "City: Kiel | Mayor: Eva",
            "City: Prices",
        ),
        *("Item | Euro | Note", "Item: Pump | Euro: 12 | Note: new | urgent"),
    ]


@pytest.mark.parametrize("folder", ["xl/workbook.xml", "xl/workbook2.xml", "book/main.xml"])
def test_a_workbook_may_have_any_name_and_be_strict(folder: str) -> None:
    strict = "http://purl.oclc.org/ooxml/spreadsheetml/main"
    related = "http://purl.oclc.org/ooxml/officeDocument/relationships"
    assert read(excel({"S": CELLS[:2]}, part=folder, space=strict, related=related)).text == "S\n\nWhat | Value"


def test_what_was_said_of_cells_is_read() -> None:
    extra = {
        "xl/_rels/sheet0.xml.rels": relationships({"c": ("comments", "c.xml")}),
        "xl/c.xml": '<comments><comment ref="B2"><text><r><t>Ask </t></r><r><t>Ada</t></r></text></comment></comments>',
    }
    assert read(excel({"S": CELLS[:3]}, extra=extra)).text.endswith("Comment on B2: Ask Ada")


def test_damage_in_a_sheet_is_told_and_what_is_before_it_read() -> None:
    whole = '<sheetData><row r="1"><c r="A1" t="str"><v>before</v></c></row><row r="2"><c r="A2" t="str"><v>be'
    document = read(excel({"S": f"{whole}\x01\x02<<<</c></v>"}))
    assert "before" in document.text
    assert document.notes == ["The sheet S is damaged, and read as far as that goes."]
    with pytest.raises(UnreadableFile):
        read(excel_97(CELLS)[:2000], "a.xls")


def test_a_line_of_megabytes_and_a_table_of_one_column_are_read_as_they_are() -> None:
    document = read(b"a,b\n" + b"word, " * 500_000 + b"\n1,2\n", "a.csv")
    assert document.text.endswith("a: 1 | b: 2")
    assert len(document.text) < 4 * 500_000 * len("word, ")
