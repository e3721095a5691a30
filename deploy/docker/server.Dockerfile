# A server: gateway and tails; with Ray also head, worker and gateway of a cluster.
#   docker build --file deploy/docker/server.Dockerfile --tag splitrt-server .
# EXTRAS says what is in it: "" tails on this machine's CPU, "server" Ray too, "server,torch" also tails on GPUs,
# "server,torch,llm" also language models. torch is of the version in constraints.txt; for its CPU build, name an
# index that has it in PIP_EXTRA_INDEX_URL.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG EXTRAS=server
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY splitrt splitrt
COPY head_models head_models
COPY tail_models tail_models
RUN pip install --no-cache-dir --ignore-installed --prefix=/install --constraint constraints.txt "splitrt[${EXTRAS}] @ file:///src"

FROM python:${PYTHON}-slim-bookworm AS server
# Whether a Ray pod is well is asked by wget inside it, by KubeRay and by deploy/kubernetes.
RUN apt-get update \
 && apt-get install --no-install-recommends --yes wget \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin splitrt
# Into /usr/local, not a virtual environment: KubeRay starts Ray in a login shell, which resets PATH.
COPY --from=build /install /usr/local
ENV HOME=/tmp PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 7070 9464
ENTRYPOINT ["splitrt"]
CMD ["serve", "photos", "--listen", "0.0.0.0:7070", "--metrics", "0.0.0.0:9464"]
# Over TLS, say so in SPLITRT_CLIENT_TLS_CA, _CERT and _KEY: the check is a client like others.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --start-interval=2s \
  CMD ["splitrt", "doctor", "--health", "--server", "127.0.0.1:7070"]
