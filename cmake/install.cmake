# Installation: the program with its man page and completions, both libraries with headers, a CMake package and a pkg-config file, and
# the files that come with the program. Every path in them is relative to the place of the file, so a prefix may be moved.
include(CMakePackageConfigHelpers)
set(CRANK_PACKAGE_FOLDER ${CMAKE_INSTALL_LIBDIR}/cmake/crank)

install(DIRECTORY include/crank DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/crank)
install(DIRECTORY assets DESTINATION ${CMAKE_INSTALL_DATADIR}/crank PATTERN "*.sh" EXCLUDE)

install(TARGETS crank_shared EXPORT crank_shared_targets)
install(TARGETS crank_static crank_dependencies EXPORT crank_static_targets)
set_target_properties(crank_shared PROPERTIES EXPORT_NAME crank)
set_target_properties(crank_static PROPERTIES EXPORT_NAME static)
set_target_properties(crank_dependencies PROPERTIES EXPORT_NAME dependencies)
install(EXPORT crank_shared_targets FILE crankShared.cmake NAMESPACE crank:: DESTINATION ${CRANK_PACKAGE_FOLDER})
install(EXPORT crank_static_targets FILE crankStatic.cmake NAMESPACE crank:: DESTINATION ${CRANK_PACKAGE_FOLDER})
configure_package_config_file(cmake/crankConfig.cmake.in ${CMAKE_BINARY_DIR}/crankConfig.cmake INSTALL_DESTINATION ${CRANK_PACKAGE_FOLDER})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/crankConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/crankConfig.cmake ${CMAKE_BINARY_DIR}/crankConfigVersion.cmake DESTINATION ${CRANK_PACKAGE_FOLDER})

file(RELATIVE_PATH CRANK_PREFIX_FROM_PC /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" CRANK_PREFIX_FROM_PC ${CRANK_PREFIX_FROM_PC})
get_filename_component(CRANK_OPENBLAS_FOLDER ${OPENBLAS_LIBRARY} DIRECTORY)
configure_file(cmake/crank.pc.in ${CMAKE_BINARY_DIR}/crank.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/crank.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(TARGET crank)
  install(TARGETS crank)
  # The program knows its verbs, options and methods: it writes its own man page and completions.
  set(CRANK_PAGES ${CMAKE_BINARY_DIR}/crank.1 ${CMAKE_BINARY_DIR}/completions/crank ${CMAKE_BINARY_DIR}/completions/_crank
                  ${CMAKE_BINARY_DIR}/completions/crank.fish)
  add_custom_command(OUTPUT ${CRANK_PAGES}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/completions
    COMMAND crank help --man > ${CMAKE_BINARY_DIR}/crank.1
    COMMAND crank help --completion bash > ${CMAKE_BINARY_DIR}/completions/crank
    COMMAND crank help --completion zsh > ${CMAKE_BINARY_DIR}/completions/_crank
    COMMAND crank help --completion fish > ${CMAKE_BINARY_DIR}/completions/crank.fish
    DEPENDS crank COMMENT "Writing the man page and the completions" VERBATIM)
  add_custom_target(crank_pages ALL DEPENDS ${CRANK_PAGES})
  install(FILES ${CMAKE_BINARY_DIR}/crank.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${CMAKE_BINARY_DIR}/completions/crank DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${CMAKE_BINARY_DIR}/completions/_crank DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
  install(FILES ${CMAKE_BINARY_DIR}/completions/crank.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
