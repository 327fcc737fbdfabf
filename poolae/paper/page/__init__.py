"""The published page: notebooks executed, merged, numbered and given tools."""

import sys

# jsonschema checks addresses with it if it is there, as it is beside JupyterLab. No notebook has
# any, and importing it compiles a grammar: 1.7 s in front of each execution.
sys.modules.setdefault("rfc3987_syntax", None)
