"""The documentation site: `make docs` builds it without a network, and a warning is an error."""

import japagen

project = "japagen"
author = "the japagen authors"
project_copyright = "the japagen authors"
release = japagen.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["colon_fence"]
# Links such as report.md#baselines.
myst_heading_anchors = 4

html_theme = "furo"
html_title = "japagen"
html_static_path = ["images"]
html_show_copyright = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# A class is described in one place: its docstring names its arguments.
autoclass_content = "class"
autodoc_class_signature = "separated"
python_maximum_signature_line_length = 80
