# SPDX-License-Identifier: GPL-2.0-only
#
# make          BPF objects, skeletons, build/colo-bpf
# make demo     two real VMs, one dies, no client notices (root; does all it needs)
# make test     every test (root; does all it needs)
# make help     the rest

.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := all

BUILD   ?= build
BPF_DIR ?= bpf
PREFIX  ?= /usr/local
DESTDIR ?=

CC           ?= gcc
CLANG        ?= clang
BPFTOOL      ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
CLANG_FORMAT ?= clang-format
CLANG_TIDY   ?= clang-tidy

WARNINGS   := -Wall -Wextra -Wformat-security -Werror
MULTIARCH  := $(shell $(CC) -print-multiarch 2>/dev/null)
CFLAGS     ?= -O2 -g
ALL_CFLAGS := -std=gnu11 -D_GNU_SOURCE $(WARNINGS) -Wstrict-prototypes -Wmissing-prototypes \
	      -Iinclude -Iloader -I$(BUILD) $(CFLAGS)
BPF_CFLAGS := -O2 -g -target bpf -mcpu=v3 -D__bpf__ $(WARNINGS) -Iinclude -I$(BPF_DIR) \
	      -I$(BUILD) -idirafter /usr/include/$(MULTIARCH)
LDLIBS     := -lbpf -ljansson -lconfig -lsodium

# What Debian 12 lacks. Other parts name theirs in files, a package a line.
PACKAGES      := build-essential clang llvm bpftool libbpf-dev libelf-dev zlib1g-dev \
		 libjansson-dev libconfig-dev libsodium-dev libcmocka-dev libpcap-dev linux-libc-dev iproute2 ethtool python3 git \
		 ca-certificates
LINT_PACKAGES := clang-format clang-tidy cppcheck shellcheck
PACKAGE_FILES := qemu-glue/packages tests/vm/packages

BPF_OBJECTS := $(BUILD)/primary.bpf.o $(BUILD)/secondary.bpf.o $(BUILD)/port.bpf.o \
	       $(BUILD)/xdp.bpf.o
SKELETONS   := $(BUILD)/primary.skel.h $(BUILD)/secondary.skel.h $(BUILD)/port.skel.h \
	       $(BUILD)/xdp.skel.h
BINARY      := $(BUILD)/colo-bpf
# All of the loader but main(), for the tests.
LOADER_LIB     := $(BUILD)/libcolo.a
LOADER_SOURCES := $(wildcard loader/*.c)
LOADER_OBJECTS := $(LOADER_SOURCES:loader/%.c=$(BUILD)/loader/%.o)
UNIT_SOURCES   := $(wildcard tests/unit/*.c)
UNIT_OBJECTS   := $(UNIT_SOURCES:tests/unit/%.c=$(BUILD)/unit-tests/%.o)

# Fragments of other parts add what has to be built before `make test`.
TEST_PREREQUISITES := $(BUILD)/unit

.PHONY: all
all: $(BINARY)

-include qemu-glue/qemu.mk tests/tools/tools.mk tests/cases/cases.mk tests/role/role.mk \
	 tests/differ/differ.mk tests/scaling/scaling.mk tests/streams/streams.mk tests/vm/vm.mk tests/bench/bench.mk

# --- BPF ---------------------------------------------------------------------

ifneq ($(shell grep -ls 'vmlinux\.h' $(BPF_DIR)/*),)
$(BPF_OBJECTS): $(BUILD)/vmlinux.h
endif

$(BUILD)/vmlinux.h: | $(BUILD)
	$(BPFTOOL) btf dump file /sys/kernel/btf/vmlinux format c > $@

$(BUILD)/%.bpf.o: $(BPF_DIR)/%.bpf.c Makefile | $(BUILD)
	$(CLANG) $(BPF_CFLAGS) -MMD -MP -MT $@ -c $< -o $@

$(BUILD)/%.skel.h: $(BUILD)/%.bpf.o
	$(BPFTOOL) gen skeleton $< name $*_bpf > $@

# --- loader ------------------------------------------------------------------

$(BUILD)/loader/%.o: loader/%.c Makefile | $(BUILD)/loader $(SKELETONS)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# Members are named by the linker's needs: no whole-archive, no main().
$(LOADER_LIB): $(filter-out $(BUILD)/loader/main.o,$(LOADER_OBJECTS))
	rm -f $@
	$(AR) rcs $@ $^

$(BINARY): $(BUILD)/loader/main.o $(LOADER_LIB)
	$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

# --- tests -------------------------------------------------------------------

$(BUILD)/unit-tests/%.o: tests/unit/%.c Makefile | $(BUILD)/unit-tests $(SKELETONS)
	$(CC) $(ALL_CFLAGS) -Itests/unit -MMD -MP -c $< -o $@

$(BUILD)/unit: $(UNIT_OBJECTS) $(LOADER_LIB)
	$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -lcmocka -o $@

$(BUILD) $(BUILD)/loader $(BUILD)/unit-tests:
	mkdir -p $@

.PHONY: need-root deps test
need-root:
	@test "$$(id -u)" = 0 || { echo "make $(MAKECMDGOALS): run as root: it loads BPF programs and makes network namespaces" >&2; exit 1; }

deps:
	@.ci/deps $(PACKAGES) $(foreach f,$(PACKAGE_FILES),@$(f))

test: need-root
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory all test-prerequisites
	@BUILD=$(BUILD) tests/run

.PHONY: test-prerequisites
test-prerequisites: $(TEST_PREREQUISITES)

# --- the source --------------------------------------------------------------

FORMATTED = $(wildcard bpf/*.[ch] loader/*.[ch] include/colo/*.h tests/*/*.[ch])
SCRIPTS    = $(shell grep -lE '^\#!/bin/(ba|da|)sh' .ci/* tests/run tests/*/* qemu-glue/* 2>/dev/null)

TIDY       = $(CLANG_TIDY) --quiet --warnings-as-errors='*'
TIDY_FLAGS = -std=gnu11 -D_GNU_SOURCE -Iinclude -Iloader -isystem $(BUILD) -Itests/unit

# image.c includes the generated skeletons, which leak when memory is short.
.PHONY: check-format lint
check-format:
	$(CLANG_FORMAT) --dry-run -Werror $(FORMATTED)

lint: $(SKELETONS)
	@.ci/deps $(LINT_PACKAGES)
	$(TIDY) $(filter-out loader/image.c,$(LOADER_SOURCES)) $(UNIT_SOURCES) -- $(TIDY_FLAGS)
	$(TIDY) --checks=-clang-analyzer-unix.Malloc loader/image.c -- $(TIDY_FLAGS)
	cppcheck --quiet --std=c11 --error-exitcode=1 --enable=warning,performance,portability \
		--inline-suppr --suppress=missingIncludeSystem --suppress=ctunullpointer \
		'-DLIBBPF_OPTS(type,name,...)=struct type name = {__VA_ARGS__}' \
		'-Djson_array_foreach(a,i,v)=for(i=0;(v=json_array_get(a,i));i++)' \
		'-Djson_object_foreach(o,n,v)=for(n=next_name(o);(v=json_object_get(o,n));)' \
		-Iinclude -Iloader loader tests/unit
	$(if $(SCRIPTS),shellcheck -x $(SCRIPTS))

# --- the rest ----------------------------------------------------------------

.PHONY: install clean help
install: all
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/sbin/colo-bpf
	install -D -m 644 docs/colo-bpf.8 $(DESTDIR)$(PREFIX)/share/man/man8/colo-bpf.8
	install -D -m 644 docs/colo-bpf.conf.5 \
		$(DESTDIR)$(PREFIX)/share/man/man5/colo-bpf.conf.5
	install -D -m 644 loader/colo-bpf.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/colo-bpf
	install -d $(DESTDIR)/etc/colo-bpf $(DESTDIR)$(PREFIX)/share/colo-bpf/qemu-patches
	install -m 644 $(wildcard qemu-glue/patches/*) $(DESTDIR)$(PREFIX)/share/colo-bpf/qemu-patches

clean:
	rm -rf $(BUILD)

help:
	@echo 'make                objects, skeletons, build/colo-bpf'
	@echo 'make deps           install what Debian 12 lacks (root)'
	@echo 'make qemu           fetch, patch and build QEMU, cached'
	@echo 'make demo           two VMs, one dies, no client notices (root)'
	@echo 'make test           all tests (root)'
	@echo 'make verifier       objects of clang 14 and 19 on 6.1, 6.12, this kernel (root)'
	@echo 'make verifier-baseline  what it counted becomes tests/vm/verifier.counts'
	@echo 'make bench          beside QEMU'"'"'s own proxy (root); BENCH_ARGS=--quick, ROW...'
	@echo 'make bench-keep     the last run becomes the one of docs/performance.md'
	@echo 'make install        DESTDIR, PREFIX (now $(PREFIX))'
	@echo 'make check-format   clang-format, nothing is written'
	@echo 'make lint           clang-tidy, cppcheck, shellcheck'
	@echo 'make clean'

-include $(wildcard $(BUILD)/*.d $(BUILD)/loader/*.d $(BUILD)/unit-tests/*.d)
