# Images, and the chart on a real cluster. Included by the Makefile.

.PHONY: images e2e-cluster cluster-prepare

# Empty means the version, which is what the chart asks for.
IMAGE_TAG ?=
KUBE ?= $(wildcard ../shared/kube/kube)

images: ## Build all images (IMAGE_TAG=TAG); needs buildah, podman or docker
	@deploy/images/build.sh $(if $(IMAGE_TAG),--tag "$(IMAGE_TAG)")

e2e-cluster: $(TEST_STAMP) $(TOOLS_STAMP) ## Tests of the chart on the cluster of KUBECONFIG, which has the images
	$(if $(KUBECONFIG)$(KUBE),,$(error KUBECONFIG names no cluster: set it to one whose nodes have the images))
	$(if $(KUBECONFIG),@IMAGE_TAG="$(IMAGE_TAG)" $(PY) -m pytest tests/e2e_cluster -x $(PYTEST),@deploy/make/cluster.sh "$(KUBE)" "$(IMAGE_TAG)")

# What CI runs beside the tests, so that e2e-cluster finds everything there.
cluster-prepare: ; @deploy/make/cluster.sh "$(KUBE)" "$(IMAGE_TAG)" --prepare
