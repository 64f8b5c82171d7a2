// The program release makes what a version of Rollcall consists of:
//
//	rollcall_<version>_<os>_<arch>.tar.gz     the worker for Linux and macOS, amd64 and arm64
//	rollcall_<version>_linux_<arch>.image.tar an image for `docker load`, `podman load`, `crane push`
//	rollcall_<version>_<os>_<arch>.cdx.json   its software bill of materials, CycloneDX
//	rollcall-<chart version>.tgz              the Helm chart
//	rollcall_<version>.provenance.json        an in-toto statement with SLSA provenance
//	SHA256SUMS                                of all of them
//
// All of it is reproducible: the same commit and the same Go version give the same bytes, on any
// machine and in any directory. So there are no times but that of the commit, no paths, and the
// environment of the builder counts for nothing.
//
// It is a module of its own, so that the product does not depend on what packs it.
package main
