# setup dump: a file "dump" of the database, and an empty database in its place
pg_dump -Fc -f dump app
dropdb app
createdb -T template0 app
