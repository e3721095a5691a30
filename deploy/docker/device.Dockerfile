# A device: head, exits, link. Neither torch nor Ray, no compiler.
#   docker build --file deploy/docker/device.Dockerfile --tag splitrt-device .
#   docker build --file deploy/docker/device.Dockerfile --target demo --tag splitrt-demo .
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
# Where packages come from, if not from the public index: pip reads these by itself.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY splitrt splitrt
COPY head_models head_models
COPY tail_models tail_models
RUN pip install --no-cache-dir --ignore-installed --prefix=/install --constraint constraints.txt .

# The photographs that the demo streams lie inside scikit-image, which nothing else here needs.
FROM build AS samples
RUN pip install --no-cache-dir --no-deps --target=/samples scikit-image \
 && mkdir /photographs \
 && cd /samples/skimage/data \
 && cp rocket.jpg coffee.png chelsea.png astronaut.png grass.png gravel.png brick.png /photographs/

FROM python:${PYTHON}-slim-bookworm AS runtime
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin splitrt
COPY --from=build /install /usr/local
# With a read-only root file system mount a tmpfs on /tmp: bundles that are fetched are kept below HOME.
ENV HOME=/tmp PYTHONUNBUFFERED=1
USER 10001:10001
# As process 1, Python heeds only signals that it has a handler for.
STOPSIGNAL SIGINT
ENTRYPOINT ["splitrt"]
# A device answers alone when its server is gone: what it can reach says nothing of its own health.
HEALTHCHECK NONE

FROM runtime AS demo
COPY --from=samples /photographs /photographs
CMD ["stream", "/photographs", "--loop"]

FROM runtime AS device
CMD ["stream", "0"]
