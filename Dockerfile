# Two images from one file:
#   docker build -t listener .                       the listener (the last stage)
#   docker build -t storescp --target storescp .     DCMTK's storescp, unmodified
# No syntax line, no here-documents and no COPY --link: an older buildah and a BuildKit without a network build it too.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim
ARG DCMTK_IMAGE=docker.io/library/debian:trixie-slim

FROM ${DCMTK_IMAGE} AS storescp
# The release's own DCMTK: a pinned version would be gone from the mirrors with the next security update.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends dcmtk \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log /var/cache/ldconfig
# Without it each image can wait 40 ms for a delayed acknowledgement.
ENV TCP_NODELAY=1
# The uid of the listener: the kernel tells only a file's owner whether it is still open for writing.
USER 10001:10001
EXPOSE 11112
STOPSIGNAL SIGTERM
ENTRYPOINT ["storescp"]
CMD ["--fork", "+uf", "+xa", "-ts", "60", "-pm", "-od", "/dicom/incoming", "11112"]
ARG DCMTK_IMAGE
LABEL org.opencontainers.image.title="storescp" \
      org.opencontainers.image.description="DCMTK's storescp, unmodified, as the user of dicom-listener" \
      org.opencontainers.image.authors="the dicom-listener authors" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.base.name="${DCMTK_IMAGE}"

FROM ${PYTHON_IMAGE} AS build
# Neither byte code nor wheel may depend on the order of a set, or on the day (1980 is the first that a wheel knows).
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=315532800 \
    PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# Dependencies before the source: a change of the source does not fetch them again.
COPY requirements.lock .ci/build.lock ./
RUN python3 -m venv /tools \
    && python3 -m venv --without-pip /opt/listener \
    && /tools/bin/pip install --no-compile --require-hashes -r build.lock \
    && /tools/bin/pip --python /opt/listener/bin/python install --no-compile --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY listener ./listener
COPY docs/installed ./docs/installed
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --no-index -w /wheel . \
    && /tools/bin/pip --python /opt/listener/bin/python install --no-compile --no-deps --no-index /wheel/*.whl
# What some stages need beside: --build-arg EXTRAS=chris (notify), export, or both with a comma; in the versions of the tests.
ARG EXTRAS=
COPY .ci/dev.lock ./
RUN [ -z "${EXTRAS}" ] || { sed -n 's/^\([A-Za-z0-9._-]*==[^\\]*\).*/\1/p' dev.lock > versions \
    && /tools/bin/pip --python /opt/listener/bin/python install --no-compile --constraint versions \
        "$(echo /wheel/*.whl)[${EXTRAS}]"; }
# Compiled once, the standard library too (slim images come without): a read-only root cannot keep byte code of its own.
RUN PYTHONPYCACHEPREFIX=/opt/listener/bytecode /opt/listener/bin/python -m compileall -q \
        --invalidation-mode unchecked-hash \
        -x '/(test|tests|idlelib|lib2to3|tkinter|turtledemo|ensurepip|site-packages|dist-packages|config-[^/]*)/' \
        "$(/opt/listener/bin/python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && PYTHONPYCACHEPREFIX=/opt/listener/bytecode /opt/listener/bin/python -m compileall -q \
        --invalidation-mode unchecked-hash /opt/listener/lib

FROM ${PYTHON_IMAGE} AS listener
ARG VERSION=0.1.0
ARG REVISION=
COPY --from=build /opt/listener /opt/listener
# A new volume that is mounted here gets this owner. There is no VOLUME: a forgotten mount shall be told at the start, not
# hidden by one that goes with the container.
RUN install -d -o 10001 -g 10001 /dicom
ENV PATH=/opt/listener/bin:$PATH \
    PYTHONPYCACHEPREFIX=/opt/listener/bytecode \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LISTENER_INCOMING=/dicom/incoming \
    LISTENER_DATA=/dicom/data \
    LISTENER_LOG=/dicom/log \
    LISTENER_STATE=/dicom/state \
    LISTENER_REVISION=${REVISION}
USER 10001:10001
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=4 CMD ["/opt/listener/bin/python", "-c", \
    "import os, ssl, urllib.request as u; e = os.environ.get; s = 's' * bool(e('LISTENER_HTTP_CERT')); u.urlopen('http%s://127.0.0.1:%s/healthz' % (s, e('LISTENER_HTTP', ':9464').rpartition(':')[2]), timeout=4, context=ssl._create_unverified_context() if s else None)"]
ENTRYPOINT ["/opt/listener/bin/listener"]
CMD ["run"]
ARG PYTHON_IMAGE
LABEL org.opencontainers.image.title="dicom-listener" \
      org.opencontainers.image.description="DICOM intake that never loses a file" \
      org.opencontainers.image.authors="the dicom-listener authors" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
