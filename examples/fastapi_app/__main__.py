"""`python -m examples.fastapi_app`."""

from .main import main

main()
