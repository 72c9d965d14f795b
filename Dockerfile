# One image for every part of the desk; compose.yaml says which command runs where.
FROM python:3.11-slim-bookworm AS build
RUN python -m venv /opt/mpx
COPY requirements.lock /tmp/requirements.lock
RUN /opt/mpx/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
    -r /tmp/requirements.lock

FROM python:3.11-slim-bookworm
# LightGBM needs OpenMP.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 mpx \
    && useradd --uid 10001 --gid mpx --no-create-home --home-dir /var/lib/mpx \
       --shell /usr/sbin/nologin mpx \
    && install --directory --owner mpx --group mpx --mode 0750 /var/lib/mpx
COPY --from=build /opt/mpx /opt/mpx
COPY . /app
WORKDIR /app
ENV PATH=/opt/mpx/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DJANGO_SETTINGS_MODULE=mpx_site.settings \
    MPX_HOME=/var/lib/mpx \
    STATIC_ROOT=/app/staticfiles
# The files are root's, so no part of the desk can change them. The home of the build is left.
RUN python -m compileall -q /app && MPX_HOME=/tmp/build python manage.py collectstatic --noinput \
    && rm -rf /tmp/build
USER 10001:10001
EXPOSE 8080
CMD ["daphne", "-b", "0.0.0.0", "-p", "8080", "mpx_site.asgi:application"]
