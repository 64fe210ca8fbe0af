# The chosen libraries. `make deps` installs their Debian packages.
find_package(PkgConfig REQUIRED)
find_package(OpenMP REQUIRED)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(CURL REQUIRED libcurl) # its headers: the library is loaded by the first download
pkg_check_modules(PROTOBUFC REQUIRED IMPORTED_TARGET libprotobuf-c)
find_library(DNNL_LIBRARY dnnl REQUIRED)
find_library(LAPACKE_LIBRARY lapacke REQUIRED)
find_library(OPENBLAS_LIBRARY openblas REQUIRED PATH_SUFFIXES openblas-openmp)
find_path(OPENBLAS_INCLUDE cblas.h PATH_SUFFIXES openblas-openmp openblas x86_64-linux-gnu/openblas-openmp)

add_library(crank_dependencies INTERFACE)
target_include_directories(crank_dependencies SYSTEM INTERFACE $<BUILD_INTERFACE:${OPENBLAS_INCLUDE}> "$<BUILD_INTERFACE:${CURL_INCLUDE_DIRS}>")
target_link_libraries(crank_dependencies INTERFACE
  PkgConfig::JANSSON PkgConfig::YAML PkgConfig::PCRE2 PkgConfig::UTF8PROC PkgConfig::ZLIB
  PkgConfig::PROTOBUFC $<BUILD_INTERFACE:${DNNL_LIBRARY}> $<BUILD_INTERFACE:${LAPACKE_LIBRARY}> $<BUILD_INTERFACE:${OPENBLAS_LIBRARY}>
  $<INSTALL_INTERFACE:crank::dnnl> $<INSTALL_INTERFACE:crank::lapacke> $<INSTALL_INTERFACE:crank::openblas> OpenMP::OpenMP_C m dl)
