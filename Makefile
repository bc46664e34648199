# make demo    set up, make the built-in forest data, train and validate a small model, say where
# make demo TASK=count   the same for another task: counting from points
# make test    set up and run the tests
# make check   set up, lint, type-check, and hold the imports against their levels
# make lowest  run the tests with the lowest versions that the requirements allow (several minutes)
# make ablation  measure what each part of VoLUNet is worth (hours): runs/ablation/*/results.md
# make figures redraw images/ (curve and region maps need `make demo` first)

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/installed
LOWEST := .venv-lowest

# What `make demo` trains; TILES and EPOCHS have a default for each task.
TASK := classify
DEMO := runs/$(patsubst demo-classify,demo,demo-$(TASK))
DEMO_MODEL := $(DEMO)/train/model-highest.ckpt
DEMO_DATA := --img_dir $(DEMO)/data/images --csv_path $(DEMO)/data/splits.csv
TILES_classify := 480
EPOCHS_classify := 14
TILES_count := 200
EPOCHS_count := 12
TILES := $(TILES_$(TASK))
EPOCHS := $(EPOCHS_$(TASK))
TRAIN_classify := --backbone-name resnet10t --image-size 160 --recipe regions --lr 2e-3 \
	--head-lr-factor 4 --channels-last
VAL_classify := --mask-dir $(DEMO)/data/masks
TRAIN_count := --task count --points-path $(DEMO)/data/points.csv --recipe recommended \
	--backbone-name resnet10t --crop-size 128 --quarter-turns --channels-last
VAL_count := --points-path $(DEMO)/data/points.csv
ifndef TRAIN_$(TASK)
$(error TASK is $(TASK); choose classify or count)
endif
# Files of tests in the order of tests/conftest.py, as the longest are not those with the most tests.
TEST_FLAGS := -n 2 --dist loadfile --no-loadscope-reorder

# For `make ablation`: the photographs, and weights for MobileNetV2 as flags of train.py.
AQUARIUM :=
AQUARIUM_FLAGS := --pretrained

.PHONY: demo test check lowest ablation figures clean

$(INSTALLED): requirements.txt requirements-dev.txt requirements-export.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; set PYTHON=/path/to/python3.11."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements.txt -r requirements-dev.txt -c constraints.txt
	@touch $@

demo: $(INSTALLED)
	$(RUN) -m helper_functions.forest --output $(DEMO)/data --tiles $(TILES)
	$(RUN) train.py $(DEMO_DATA) $(TRAIN_$(TASK)) --epochs $(EPOCHS) \
		--output-path $(DEMO)/train --resume auto
	$(RUN) val.py --ckpt-path $(DEMO_MODEL) $(DEMO_DATA) $(VAL_$(TASK)) --output $(DEMO)/val
	@echo "Look at $(DEMO)/val/report.html and $(DEMO)/train/curves.png."

test: $(INSTALLED)
	$(RUN) -m pytest $(TEST_FLAGS)

check: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

lowest:
	$(PYTHON) -m venv $(LOWEST)
	sed 's/>=/==/' requirements.txt requirements-export.txt > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet -r requirements.txt -r requirements-dev.txt \
		-c $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pytest $(TEST_FLAGS)

ablation: $(INSTALLED)
	$(RUN) -m helper_functions.forest --output $(DEMO)/data --tiles 480
	$(RUN) -m helper_functions.experiments forest --img_dir $(DEMO)/data/images \
		--csv_path $(DEMO)/data/splits.csv --mask_dir $(DEMO)/data/masks \
		--output runs/ablation/forest
ifneq ($(AQUARIUM),)
	$(RUN) tests/benchmarks/box_masks.py --boxes $(AQUARIUM)/boxes --images $(AQUARIUM)/images \
		--names fish jellyfish penguin puffin shark starfish stingray --output runs/ablation/boxes
	$(RUN) -m helper_functions.experiments aquarium --img_dir $(AQUARIUM)/images \
		--csv_path $(AQUARIUM)/splits.csv --mask_dir runs/ablation/boxes \
		--output runs/ablation/aquarium -- $(AQUARIUM_FLAGS)
endif

figures: $(INSTALLED)
	$(RUN) -m helper_functions.figures --log $(DEMO)/train/log.csv --output images \
		$(if $(wildcard $(DEMO_MODEL)),--checkpoint $(DEMO_MODEL) --data $(DEMO)/data)

clean:
	rm -rf $(VENV) $(LOWEST) $(DEMO)
