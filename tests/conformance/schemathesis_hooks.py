"""What schemathesis is taught: to send bodies of a type that it does not know."""

import schemathesis


@schemathesis.serializer("application/x-tar")
def package(context: schemathesis.SerializationContext, value: object) -> dict[str, object]:
    """Bytes as they are. What is no package is refused, and that is what is looked at."""
    return {"data": value if isinstance(value, bytes) else str(value).encode()}
