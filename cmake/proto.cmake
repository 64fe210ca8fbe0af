# Protocol buffers become C in the build folder: src/base/proto/NAME.proto -> build/proto/NAME.pb-c.[ch]
find_program(PROTOC_C protoc-c REQUIRED)
set(CRANK_PROTO_FOLDER ${CMAKE_BINARY_DIR}/proto)
file(MAKE_DIRECTORY ${CRANK_PROTO_FOLDER})
set(CRANK_PROTO_SOURCES)
foreach(name event)
  set(proto ${CMAKE_SOURCE_DIR}/src/base/proto/${name}.proto)
  set(made ${CRANK_PROTO_FOLDER}/${name}.pb-c.c)
  add_custom_command(OUTPUT ${made} ${CRANK_PROTO_FOLDER}/${name}.pb-c.h
    COMMAND ${PROTOC_C} --c_out=${CRANK_PROTO_FOLDER} --proto_path=${CMAKE_SOURCE_DIR}/src/base/proto ${proto}
    DEPENDS ${proto} COMMENT "protoc-c ${name}.proto" VERBATIM)
  set_source_files_properties(${made} PROPERTIES COMPILE_OPTIONS "-w")
  list(APPEND CRANK_PROTO_SOURCES ${made})
endforeach()
