"""Addresses of MLflow stores and servers."""

import re


def without_password(text: str) -> str:
    """The text, with no user and password in the addresses that it names."""
    return re.sub(r"//[^/@\s]*@", "//", text)
