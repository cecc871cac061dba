"""What docs/api.md shows works as it stands there."""

import contextlib
import io
import re

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "api.md").read_text()


def test_the_example(api):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(example.replace("http://127.0.0.1:7860", api.url), {})
    assert said.getvalue().startswith("It is <<12+30=42>>42. ")


def test_every_path_is_listed(client, api):
    import httpx

    for path in httpx.get(f"{api.url}/openapi.json").json()["paths"]:
        assert path in PAGE or path.replace("/{id}", "") in PAGE
