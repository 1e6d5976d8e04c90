"""x"""

EXAMPLES = ""


def demo() -> None:
    """x"""
