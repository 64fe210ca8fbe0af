# The front of the house: `make` builds build/crank, `make demo` shows it, `make test` runs every test.
# CMake stands underneath; everything that these targets do can be done with it alone.
BUILD ?= build
JOBS  ?= $(shell nproc)
PACKAGES = build-essential cmake pkg-config libdnnl-dev libopenblas-openmp-dev liblapacke-dev libpcre2-dev \
           libutf8proc-dev libjansson-dev libyaml-dev libcurl4-openssl-dev libprotobuf-c-dev protobuf-c-compiler \
           zlib1g-dev libcmocka-dev gnuplot-nox

all: $(BUILD)/Makefile
	@cmake --build $(BUILD) --parallel $(JOBS)

$(BUILD)/Makefile: | deps
	@cmake -S . -B $(BUILD) -G "Unix Makefiles" $(CMAKE_FLAGS)

# Installs the Debian packages that are missing when we may (root or passwordless sudo); otherwise names them.
deps:
	@missing=""; for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q "ok installed" || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then s=""; elif sudo -n true 2>/dev/null; then s="sudo"; else \
	    echo "These Debian packages are missing:$$missing"; echo "Install them with: sudo apt-get install$$missing"; exit 1; fi; \
	  $$s apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$s apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

# The main job on the embedded default: a small base model that crank trained, adapted to real text.
demo: all
	@$(BUILD)/crank demo --output $(BUILD)/demo

test: all
	@cd $(BUILD) && ctest --output-on-failure -j $(JOBS)

# The suites that hold on every device, on a GPU: needs a build with CUDA and a card.
test-gpu: all
	@cd $(BUILD) && CRANK_TEST_DEVICE=cuda ctest --output-on-failure -R '^(gpu\.|dist\.gpu_|graph\.|linear\.|lowrank\.|optim\.|model\.families|compose\.|task\.(lora_curve|precision|resume|trainer_hooks))'

# make install [PREFIX=/usr/local] [DESTDIR=...]
install: all
	@DESTDIR="$(DESTDIR)" cmake --install $(BUILD) $(if $(PREFIX),--prefix "$(PREFIX)")

clean:
	@rm -rf $(BUILD)

.PHONY: all deps demo test test-gpu install clean
