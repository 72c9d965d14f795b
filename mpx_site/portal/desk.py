from django.http import HttpRequest


def badges(request: HttpRequest) -> dict[str, object]:
    return {}
