# setup offline: for pages that name receivers which are somebody's
psql -Xq -c 'ALTER SYSTEM SET osmtalk.enabled = off' -c 'SELECT pg_reload_conf()'
# a session reads the settings between its statements, hence a new one each time
until [ "$(psql -XAtc 'SELECT state FROM osmtalk.worker_status')" = disabled ]; do sleep 0.05; done
