# Two images from one file: `api` (the HTTP service and the migrations, no torch) and `worker`.
#
#   docker build --target api    -t secateur-api .
#   docker build --target worker -t secateur-worker .
#
# The worker's torch is the package index's own build, which on x86 brings CUDA. For a CPU-only image, point pip at an
# index of CPU builds: --build-arg PIP_EXTRA_INDEX_URL=… (the pin torch==2.13.0 is met by its +cpu build too).

ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/secateur
ENV PATH=/opt/secateur/bin:$PATH
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN pip install "$(grep '^pip==' requirements.lock)"

FROM build AS build-api
COPY secateur secateur
COPY app app
COPY workers workers
COPY migrations migrations
RUN pip install -c requirements.lock --build-constraint requirements.lock ./secateur '.[otel]'

FROM build AS build-worker
ARG PIP_EXTRA_INDEX_URL=
# what changes seldom and weighs most first, so that a change of the code does not fetch it again
RUN pip install -c requirements.lock "$(grep '^torch==' requirements.lock)"
COPY secateur secateur
COPY app app
COPY workers workers
COPY migrations migrations
RUN pip install -c requirements.lock --build-constraint requirements.lock ./secateur '.[worker,otel]'

FROM ${PYTHON_IMAGE} AS runtime
RUN useradd --system --uid 10001 --create-home --home-dir /home/secateur secateur \
    && install -d -o secateur -g secateur /data
ENV PATH=/opt/secateur/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SECATEUR_DATA_DIR=/data
WORKDIR /home/secateur
USER secateur
VOLUME /data

FROM runtime AS api
COPY --from=build-api /opt/secateur /opt/secateur
ENV SECATEUR_HOST=0.0.0.0 SECATEUR_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["secateur", "api"]

FROM runtime AS worker
COPY --from=build-worker /opt/secateur /opt/secateur
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s --retries=3 \
    CMD ["python", "-P", "-m", "workers.alive"]
CMD ["secateur", "worker"]
