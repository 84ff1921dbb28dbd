"""Write the OpenAPI document to api/openapi.json: `make openapi`."""

from api.openapi.document import encoded
from api.resources import OPENAPI

if __name__ == "__main__":
    OPENAPI.write_bytes(encoded())
