"""What schemathesis is told of the administrators' API: an outline in TOML is text, sent as it is."""

import schemathesis


@schemathesis.serializer("application/toml")
def outline(context, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
