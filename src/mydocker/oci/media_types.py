"""Media types and annotation names of images. Apart from image_spec.py, because the start path needs only these.

Source: media-types.md and annotations.md of the OCI image-spec; Docker's image manifest v2, schema 2.
"""
from __future__ import annotations

MEDIA_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
INDEX_TYPES = (MEDIA_INDEX, DOCKER_INDEX)
MANIFEST_TYPES = (MEDIA_MANIFEST, DOCKER_MANIFEST)
SCHEMA_1_TYPES = (
    "application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
#: The way out for who has an image of schema 1.
SCHEMA_1_HINT = "save or push it again with a Docker of this decade"

REF_NAME = "org.opencontainers.image.ref.name"
#: containerd's and Docker's full name of an image in a saved archive; REF_NAME is then only the tag.
CONTAINERD_NAME = "io.containerd.image.name"
