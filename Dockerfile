# syntax=docker/dockerfile:1
# One image for every program: `docker build -t jietong .`, then `docker run jietong run services.hookup`.
#   --build-arg IMAGE_PREFIX=registry.example.org/hub/   where images come from, with a slash at the end
#   --build-arg PIP_INDEX_URL=https://…                  where Python packages come from; hashes are checked wherever that is
ARG IMAGE_PREFIX=

FROM ${IMAGE_PREFIX}library/python:3.11-slim-bookworm AS packages
ARG PIP_INDEX_URL
COPY deploy/requirements.lock /tmp/
RUN python -m venv /opt/jietong \
 && /opt/jietong/bin/pip install --no-cache-dir --disable-pip-version-check --only-binary :all: --require-hashes -r /tmp/requirements.lock \
 && /opt/jietong/bin/pip uninstall --yes --quiet pip setuptools

FROM ${IMAGE_PREFIX}library/python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="jietong" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=packages /opt/jietong /opt/jietong
WORKDIR /app
COPY schemas schemas
COPY jietong jietong
COPY services services
COPY connectors connectors
COPY cities cities
COPY mappings mappings
COPY --chmod=755 deploy/jietong deploy/alive.py /opt/jietong/bin/
# Nothing under / is written, so it may be read-only; byte code is made here, where it can be. The city's keys live in /data.
RUN /opt/jietong/bin/python -m compileall -q /app /opt/jietong/lib && install -d -o 10001 -g 10001 -m 700 /data
ENV PATH=/opt/jietong/bin:$PATH PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    JIETONG_DATA=/data JIETONG_HOST=0.0.0.0 JIETONG_PORT=8440
VOLUME /data
USER 10001:10001
EXPOSE 8440
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "/opt/jietong/bin/alive.py"]
ENTRYPOINT ["jietong"]
CMD ["--help"]
