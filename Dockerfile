# The worker. The same image creates the topics: docker-compose.yml names the command.
FROM python:3.11-slim

RUN useradd --create-home --uid 10001 recsys
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY streams streams
COPY models models
COPY recsys recsys
RUN pip install --no-cache-dir -c constraints.txt '.[worker,images]'
ENV NUMBA_CACHE_DIR=/home/recsys/numba RECSYS_DATA_DIR=/data
RUN mkdir /data && chown recsys /data
USER recsys
RUN python -m recsys.warm_up
VOLUME /data
EXPOSE 6066
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=12 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:6066/health/ready', timeout=2)"]
ENTRYPOINT ["recsys"]
CMD ["worker"]
