# osmtalk: call outcomes and signed webhooks for PostgreSQL
#
#   make, make install    builds and installs with PGXS (PG_CONFIG=… chooses the server)
#   make demo [KEEP=1]    shows the main job on a private throw-away cluster
#   make test             runs every test on private clusters
#   make unit [SANITIZE=1]  runs the tests that need no server
#   make bench            measures, see test/bench/README.md
#   make chaos            faults at random, see test/chaos/README.md
#   make fuzz             whatever comes in, at random, see test/fuzz/README.md
#   make soak             a steady load for long, see test/soak/README.md
#   make valgrind         the server under valgrind, see test/valgrind/README.md
#   make test-matrix      all tests with other majors of PostgreSQL, in Debians made for that
#   make deb              Debian packages for all installed majors, see doc/packaging.md
#   make test-package     such a package from its making to its removal, in Debians made for that
#   make dist             the archive of a release, as PGXN takes it

EXTENSION = osmtalk
# the version lives in the control file alone
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" osmtalk.control)

# The install script, in this order.  A part must not have the name of a test
# in test/sql: pg_regress would find it first.
SQL_PARTS = $(addprefix sql/,roles.sql schema.sql rules.sql tables.sql configuration.sql subscriptions.sql standard.sql headers.sql \
	payloads.sql delivery.sql endpoints.sql retries.sql statistics.sql secrets.sql leads.sql calls.sql dialing.sql views.sql explain.sql preview.sql \
	retention.sql redelivery.sql unsent.sql tenants.sql \
	report_figures.sql report_charts.sql report.sql health.sql grants.sql)
DATA_built = sql/osmtalk--$(EXTVERSION).sql
# steps from one version to the next, written by hand: see doc/upgrading.md
DATA = $(wildcard sql/osmtalk--*--*.sql)
DOCS = $(wildcard doc/*.md doc/monitoring/*)
ifeq ($(DOCS),)
undefine DOCS
endif

# The library that is preloaded, and the one that only the worker loads: it
# brings libcurl, which has no business in the postmaster or in a session.
MODULE_big = osmtalk
OBJS = $(addprefix src/,osmtalk.o settings.o fault.o wakeup.o launcher.o load.o makeway.o hush.o ids.o ring.o render.o signing.o compose.o headers.o preview.o egress.o endpoint.o url.o functions.o webhooks.o tenant.o installation.o \
	nested.o rules.o lookup.o insert.o record.o subscriptions.o events.o unsent.o decide.o calls.o predicate.o)
SHLIB_LINK = -lcrypto
WORKER = osmtalk_worker$(DLSUFFIX)
WORKER_OBJS = $(addprefix src/,worker.o sending.o slot.o crash.o objects.o ownership.o outbox.o look.o claim.o claimed.o recipient.o settle.o retries.o tally.o retention.o redelivery.o upkeep.o statements.o scheduler.o endpoints.o waiting.o http.o request.o resolver.o result.o answer.o target.o own.o sockets.o)
WORKER_LIBS = -lcurl -lcrypto

# The oldest version of the SQL objects that the worker can serve while they
# have not been updated yet.  To be raised when a worker's statement comes to
# need what an upgrade step makes; see doc/upgrading.md.
OLDEST_OBJECTS = 0.1.0

PG_CPPFLAGS = -DOSMTALK_VERSION='"$(EXTVERSION)"' -DOSMTALK_OLDEST_OBJECTS='"$(OLDEST_OBJECTS)"'
EXTRA_CLEAN = $(WORKER) $(WORKER_OBJS) $(WORKER_OBJS:.o=.bc) src/*.d test/unit/*_test test/unit/*_test_sanitized

# SANITIZE=1: the compiler checks each access to memory and each operation
ifeq ($(SANITIZE),1)
UNIT_CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
UNIT_SUFFIX = _sanitized
endif
UNIT_TESTS = $(patsubst %,test/unit/%_test$(UNIT_SUFFIX),scheduler egress signing compose ids endpoint url answer)

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

# On a machine that has no server headers yet, demo and test install them.
ifneq ($(wildcard $(PGXS)),)
include $(PGXS)
endif

# after PGXS, whose own first target is the default
.PHONY: demo test bench chaos soak fuzz valgrind test-matrix test-package deb dist bench-compare unit install-worker uninstall-worker

demo test bench chaos soak fuzz valgrind test-matrix test-package deb dist:
	@test/bin/$@

bench-compare:
	@test/bin/bench compare $(A) $(B)

all: $(WORKER)

$(DATA_built): $(SQL_PARTS) $(DATA) osmtalk.control
	@for part in $(notdir $(SQL_PARTS)); do \
	  if [ -e test/sql/$$part ]; then echo "test/sql/$$part has the name of a part of the install script" >&2; exit 1; fi; \
	done
	@if LC_ALL=C grep -n '[^ -~	]' $(SQL_PARTS) $(DATA); then \
	  echo "the install script must be ASCII: it is read in the encoding of any database" >&2; exit 1; fi
	cat $(SQL_PARTS) > $@

$(OBJS) $(WORKER_OBJS): $(wildcard src/*.h) osmtalk.control

$(WORKER): $(WORKER_OBJS)
	$(LINK.shared) -o $@ $(WORKER_OBJS) $(LDFLAGS) $(LDFLAGS_SL) $(WORKER_LIBS)

install: install-worker
install-worker: $(WORKER) installdirs
	$(INSTALL_SHLIB) $(WORKER) '$(DESTDIR)$(pkglibdir)/'

uninstall: uninstall-worker
uninstall-worker:
	rm -f '$(DESTDIR)$(pkglibdir)/$(WORKER)'

# Modules that know nothing of PostgreSQL are tested without it.
unit: $(UNIT_TESTS)
	@for t in $(UNIT_TESTS); do echo "# $$t"; ./$$t || exit 1; done
	@echo "# egress_oracle.py"; python3 test/unit/egress_oracle.py test/unit/egress_test$(UNIT_SUFFIX) --answer

test/unit/%_test$(UNIT_SUFFIX): test/unit/%_test.c test/unit/check.h src/%.c src/%.h
	$(CC) -std=gnu99 -g -O1 -Wall -Wextra $(UNIT_CFLAGS) -Isrc -o $@ $< $(filter src/%.c,$^) $(UNIT_LIBS)
test/unit/scheduler_test$(UNIT_SUFFIX): src/endpoints.c src/endpoints.h src/waiting.c src/waiting.h
test/unit/signing_test$(UNIT_SUFFIX): UNIT_LIBS = -lcrypto
test/unit/compose_test$(UNIT_SUFFIX): src/signing.c src/signing.h
test/unit/compose_test$(UNIT_SUFFIX): UNIT_LIBS = -lcrypto
test/unit/url_test$(UNIT_SUFFIX): src/endpoint.c src/endpoint.h src/target.c src/target.h test/urls.txt
test/unit/url_test$(UNIT_SUFFIX): UNIT_LIBS = -lcurl
