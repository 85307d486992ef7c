FROM apache/beam_python3.11_sdk:2.77.0
ARG SETS="job registry"
COPY . /opt/session-forwarder
RUN cd /opt/session-forwarder \
    && pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && pip install --no-cache-dir --require-hashes --no-build-isolation $(printf -- '-r requirements/%s.txt ' $SETS) \
    && pip install --no-cache-dir --no-deps --no-build-isolation . \
    && rm -r /opt/session-forwarder
