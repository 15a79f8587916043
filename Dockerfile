# Slipway in one image: web, worker and runner host are the same image with another command (compose.yaml).
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements.txt .
# torch first and alone: TORCH_PIP_ARGS points pip at CPU wheels where the default build would bring GPU libraries
ARG TORCH_PIP_ARGS=""
RUN python -m venv /opt/slipway \
 && /opt/slipway/bin/pip install ${TORCH_PIP_ARGS} "$(sed -n 's/^\(torch==.*\)/\1/p' requirements.txt)" \
 && /opt/slipway/bin/pip install -r requirements.txt

FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates git libgomp1 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home --home-dir /home/slipway slipway \
 && install -d -o slipway -g slipway -m 750 /var/lib/slipway /var/lib/slipway/artifacts /var/lib/slipway/environments /var/lib/slipway/trainings /run/slipway
COPY --from=build /opt/slipway /opt/slipway
COPY --chown=root:root . /app
WORKDIR /app
ENV PATH=/opt/slipway/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SLIPWAY_VAR=/var/lib/slipway SLIPWAY_STATIC_ROOT=/app/staticfiles SLIPWAY_BIND=0.0.0.0:8000
# a throw-away secret for this one command: collecting files needs settings, not secrets
RUN SLIPWAY_ENV=production SLIPWAY_HOSTS=build SLIPWAY_SECRET_KEY=only-for-collectstatic SLIPWAY_VAR=/tmp/var python manage.py collectstatic --noinput -v 0 \
 && rm -rf /tmp/var
# the user of the container may not write beside the code: compiled here, or every process compiles it again as it starts
RUN python -m compileall -q --invalidation-mode unchecked-hash accounts mlops monitoring registry serving
USER slipway
VOLUME /var/lib/slipway
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen(urllib.request.Request('http://127.0.0.1:8000/healthz', headers={'Host': 'localhost', 'X-Forwarded-Proto': 'https'}), timeout=2)"]
CMD ["gunicorn", "-c", "mlops/gunicorn.conf.py"]
