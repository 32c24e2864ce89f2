# One image for server and workers; what it is is decided by the command.
FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json ./
COPY src src
COPY workflows workflows
COPY activities activities
COPY worker worker
RUN node src/embedded/bootstrap.mjs build && npm prune --omit=dev

FROM node:24-bookworm-slim
# git: checkouts. busybox-static: the helper that runs steps inside their containers. tini: signals reach Node.js.
RUN apt-get update && apt-get install --yes --no-install-recommends \
      busybox-static ca-certificates git openssh-client tini \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
ENV NODE_ENV=production PENSTOCK_DATA=/data PENSTOCK_CONFIG=/etc/penstock/penstock.config.yml
VOLUME /data
ENTRYPOINT ["tini", "--", "node", "--enable-source-maps"]
CMD ["dist/src/server.js"]
