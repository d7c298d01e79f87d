# The front door of AxHV: `make help` lists what it opens.

# What the user may set.
A ?= apps/hv
ARCH ?= riscv64
EMU ?= qemu
SMP ?= 4
MEM ?= $(if $(filter bochs,$(EMU)),512M,1G)
LOG ?= warn
ACCEL ?= tcg
VM_CONFIGS ?= configs/vms/linux-$(ARCH).toml configs/vms/heartbeat-$(ARCH).toml

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
# What starts an emulator ends with make, even if that is killed; and what cargo runs, with cargo.
run test bench: private SHELL := setpriv
run test bench: private .SHELLFLAGS := --pdeathsig TERM /bin/bash -euo pipefail -c
TIED := --config "target.'cfg(unix)'.runner = 'setpriv --pdeathsig TERM'"
.DEFAULT_GOAL := help
.PHONY: help setup image guests bundle run test bench check clean

OUT := target/$(ARCH)
TOOLCHAIN := . scripts/toolchain.sh && axhv_toolchain $(ARCH)
HOST_CARGO := $(TOOLCHAIN) && exec $$CARGO $(TIED)

BENCH_FLAGS = $(if $(SHORT),--short) $(if $(PEER),--peer $(PEER)) $(if $(ACCEPT),--accept) $(if $(ROW),--row $(ROW))

ifneq ($(A),apps/hv)
$(error A=$(A): the only application is apps/hv)
endif
ARCHS := riscv64 x86_64
ifneq ($(words $(ARCH))-$(filter $(ARCH),$(ARCHS)),1-$(ARCH))
$(error ARCH=$(ARCH) is not supported; use ARCH=riscv64 or ARCH=x86_64)
endif
ifeq ($(ARCH)-$(EMU),riscv64-bochs)
$(error EMU=bochs with ARCH=riscv64: Bochs emulates x86_64 only; use ARCH=x86_64 EMU=bochs, or ARCH=riscv64 EMU=qemu)
endif
ifneq ($(words $(EMU))-$(filter $(EMU),qemu bochs),1-$(EMU))
$(error EMU=$(EMU) is not supported; use EMU=qemu, or on x86_64 EMU=bochs)
endif
ifneq ($(filter-out kvm,$(PEER)),)
$(error PEER=$(PEER) is not supported; use PEER=kvm)
endif
ifneq ($(filter-out 1,$(SHORT)),)
$(error SHORT=$(SHORT) is not supported; use SHORT=1, or leave it out)
endif
ifneq ($(filter-out 1,$(ACCEPT)),)
$(error ACCEPT=$(ACCEPT) is not supported; use ACCEPT=1, or leave it out)
endif
ifneq ($(words $(LOG))-$(filter $(LOG),off error warn info debug trace),1-$(LOG))
$(error LOG=$(LOG) is not supported; use LOG=off, error, warn, info, debug or trace)
endif
ifneq ($(words $(SMP))-$(filter $(SMP),1 2 3 4 5 6 7 8),1-$(SMP))
$(error SMP=$(SMP) is not supported; use SMP=1 to SMP=8)
endif
# What is wrong with it, if anything.
MEM_WRONG := $(shell [[ '$(subst ','\'',$(MEM))' =~ ^([1-9][0-9]{0,5})([MG])$$ ]] || { echo 'is not supported; use a number with M or G, as MEM=512M or MEM=1G'; exit; }; \
	unit=$${BASH_REMATCH[2]/G/* 1024}; (($${BASH_REMATCH[1]} $${unit/M/} >= 128)) || echo 'is less than the image needs; use MEM=128M or more')
ifneq ($(MEM_WRONG),)
$(error MEM=$(MEM) $(MEM_WRONG))
endif
ifeq ($(strip $(VM_CONFIGS)),)
$(error VM_CONFIGS is empty; name one VM config or more, as VM_CONFIGS=configs/vms/hello-$(ARCH).toml)
endif
ifeq ($(EMU)-$(ACCEL),bochs-kvm)
$(error ACCEL=kvm with EMU=bochs: Bochs emulates every instruction; leave out one of the two)
endif
ifeq ($(ARCH)-$(ACCEL),x86_64-kvm)
# The host's own CPU, with its nested virtualization.
export CPU ?= host
else ifneq ($(ACCEL),tcg)
$(error ACCEL=$(ACCEL) with ARCH=$(ARCH): use ACCEL=tcg, or on x86_64 ACCEL=kvm where the host has nested virtualization)
endif

IMAGE_riscv64 := hv.bin
IMAGE_x86_64 := hv.elf
END_qemu := Ctrl-A X ends QEMU
END_bochs := Ctrl-] ends Bochs (which takes a minute or two to boot Linux)

help:
	@echo 'make run      boot the hypervisor with VM_CONFIGS (sets everything up first)'
	@echo 'make test     every test of both architectures: units on this machine, whole systems in QEMU and Bochs (sets everything up first)'
	@echo 'make bench    count what everything costs, and fail if a budget is exceeded; with PEER=kvm beside KVM, with SHORT=1 exits only,'
	@echo '              with ACCEPT=1 the result is kept in benches/ and lowers budgets, with ROW=cpuid, say, that row alone'
	@echo 'make check    formatting, lints and documentation, warnings denied'
	@echo 'make setup    install what is missing'
	@echo 'make image    build the hypervisor'
	@echo 'make guests   fetch and build the guests'
	@echo 'make bundle   pack VM_CONFIGS and their images'
	@echo 'make clean    remove everything built or fetched'
	@echo
	@echo 'variables     A=$(A) ARCH=$(ARCH) EMU=$(EMU) SMP=$(SMP) MEM=$(MEM) LOG=$(LOG) ACCEL=$(ACCEL)'
	@echo '              VM_CONFIGS="$(VM_CONFIGS)"'
	@echo 'in a run      Ctrl-T moves the console to the next VM; Ctrl-Y says how the VMs are; $(END_$(EMU))'

setup:
	@EMU=$(EMU) scripts/setup.sh $(ARCH)

image: setup
	@scripts/image.sh $(ARCH) $(LOG)

guests: setup
	@scripts/guests.sh linux $(ARCH)
	@scripts/guests.sh bare $(ARCH)

bundle: guests
	@$(HOST_CARGO) run --quiet -p hvctl -- pack --isa $(ARCH) --pcpus $(SMP) --images target -o $(OUT)/bundle.cpio $(VM_CONFIGS)

run: image bundle
	@echo 'run: Ctrl-T moves the console to the next VM; Ctrl-Y says how the VMs are; $(END_$(EMU))'
	@EMU=$(EMU) SMP=$(SMP) MEM=$(MEM) ACCEL=$(ACCEL) scripts/run.sh $(ARCH) $(OUT)/$(IMAGE_$(ARCH)) $(OUT)/bundle.cpio

test:
	@$(MAKE) --no-print-directory image guests ARCH=riscv64 EMU=qemu
	@$(MAKE) --no-print-directory image guests ARCH=x86_64 EMU=bochs
	@echo 'test: units on this machine'
	@$(HOST_CARGO) test --quiet
	@echo 'test: whole systems in QEMU and Bochs'
	@$(HOST_CARGO) test --quiet -p system-tests
	@echo 'test: budgets'
	@$(HOST_CARGO) run --quiet -p hvbench -- --arch riscv64 --short
	@$(HOST_CARGO) run --quiet -p hvbench -- --arch x86_64 --short
	@$(HOST_CARGO) run --quiet -p hvbench -- --arch x86_64 --emu bochs --short

bench: image guests
	@$(HOST_CARGO) run --quiet -p hvbench -- --arch $(ARCH) --emu $(EMU) $(BENCH_FLAGS)

check:
	@for arch in $(ARCHS); do scripts/setup.sh $$arch; done
	@scripts/check.sh $(ARCHS)

clean:
	@rm -rf target
	@echo 'clean: removed target/'

.DEFAULT:
	@echo "make: there is no target '$@'; \`make help\` lists those that there are" >&2
	@exit 2
