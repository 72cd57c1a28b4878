# One image, every role: docker run nexafi run ledger
FROM python:3.13-slim-bookworm AS build
WORKDIR /build
COPY requirements-runtime.lock .
RUN python -m venv /opt/nexafi \
 && /opt/nexafi/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements-runtime.lock \
 && /opt/nexafi/bin/python -m compileall -q /opt/nexafi

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="NexaFi" \
      org.opencontainers.image.description="An event-sourced financial platform" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 nexafi && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin nexafi
ENV PATH=/opt/nexafi/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY --from=build /opt/nexafi /opt/nexafi
COPY LICENSE pyproject.toml ./
COPY schemas schemas
COPY nexafi nexafi
COPY events events
COPY services services
COPY sagas sagas
COPY projections projections
COPY gateway gateway
COPY cli cli
USER 10001:10001
ENTRYPOINT ["python", "-m", "cli"]
CMD ["--help"]
