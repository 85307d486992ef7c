FROM apache/beam_python3.11_sdk:2.77.0
ARG EXTRAS=aws,registry
COPY . /opt/session-forwarder
RUN pip install --no-cache-dir -c /opt/session-forwarder/constraints.txt "/opt/session-forwarder[$EXTRAS]" \
    && rm -r /opt/session-forwarder
