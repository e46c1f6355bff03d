# SPDX-License-Identifier: Apache-2.0
# sev_room(NAME sources… [LINK libraries…]): a room of the house as a static library with the house's warnings.
add_library(sev_flags INTERFACE)
target_compile_options(sev_flags INTERFACE -Wall -Wextra -Wconversion -Wshadow)
if(XEN_SEV_WERROR)
    target_compile_options(sev_flags INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC bug 105651, mended in 13: with optimisation, every "literal" + std::string is said to copy onto itself
    target_compile_options(sev_flags INTERFACE -Wno-restrict)
endif()
target_compile_definitions(sev_flags INTERFACE $<$<CONFIG:Release,RelWithDebInfo>:_FORTIFY_SOURCE=2>)
target_compile_options(sev_flags INTERFACE -fstack-protector-strong)
if(XEN_SEV_SANITIZE)
    target_compile_options(sev_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -U_FORTIFY_SOURCE)
    target_link_options(sev_flags INTERFACE -fsanitize=address,undefined)
endif()
if(XEN_SEV_SANITIZE_THREADS)
    target_compile_options(sev_flags INTERFACE -fsanitize=thread -fno-omit-frame-pointer -U_FORTIFY_SOURCE)
    target_link_options(sev_flags INTERFACE -fsanitize=thread)
    # ThreadSanitizer does not know fences; what Asio guards by them is under its mutexes as well
    target_compile_definitions(sev_flags INTERFACE BOOST_ASIO_DISABLE_FENCED_BLOCK)
endif()
if(XEN_SEV_FUZZ)
    target_compile_options(sev_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

function(sev_precompile name)
    if(NOT XEN_SEV_PCH)
        return()
    endif()
    if(name STREQUAL sev_base)
        target_precompile_headers(sev_base PRIVATE <algorithm> <array> <functional> <map> <memory> <optional> <set> <span> <string> <variant> <vector> <fmt/format.h> <nlohmann/json.hpp>)
    else()
        target_precompile_headers(${name} REUSE_FROM sev_base)
    endif()
endfunction()

function(sev_room name)
    cmake_parse_arguments(ROOM "" "" "LINK" ${ARGN})
    if(NOT ROOM_UNPARSED_ARGUMENTS)
        add_library(${name} INTERFACE)
        return()
    endif()
    add_library(${name} STATIC ${ROOM_UNPARSED_ARGUMENTS})
    target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name} PUBLIC sev_flags ${ROOM_LINK})
    sev_precompile(${name})
endfunction()

function(sev_program name)
    cmake_parse_arguments(PROGRAM "" "" "LINK" ${ARGN})
    if(NOT PROGRAM_UNPARSED_ARGUMENTS)
        return()
    endif()
    add_executable(${name} ${PROGRAM_UNPARSED_ARGUMENTS})
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name} PRIVATE sev_flags ${PROGRAM_LINK})
    sev_precompile(${name})
endfunction()

# sev_daemon_program(NAME): what a program that gives up ptrace needs under a sanitizer
function(sev_daemon_program name)
    if(XEN_SEV_SANITIZE)
        target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/sanitized/no_leak_search.cpp)
    endif()
endfunction()

# sev_front(NAME MANUAL): completion and man page of a program with a command table (console/command.hpp). The man page is also kept in the tree, where
# a test holds it against the table.
include(GNUInstallDirs)
function(sev_front name manual)
    set(made ${CMAKE_CURRENT_BINARY_DIR}/completion)
    set(files ${made}/${name} ${made}/_${name} ${made}/${name}.fish)
    add_custom_command(
        OUTPUT ${files}
        COMMAND ${CMAKE_COMMAND} -E make_directory ${made}
        COMMAND ${name} --print-completion bash > ${made}/${name}
        COMMAND ${name} --print-completion zsh > ${made}/_${name}
        COMMAND ${name} --print-completion fish > ${made}/${name}.fish
        DEPENDS ${name} VERBATIM)
    add_custom_target(${name}_completion ALL DEPENDS ${files})
    set_property(GLOBAL APPEND PROPERTY SEV_FRONTS "${name}=${CMAKE_CURRENT_SOURCE_DIR}/${manual}")
    install(TARGETS ${name})
    install(FILES ${manual} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
    install(FILES ${made}/${name} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
    install(FILES ${made}/_${name} DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
    install(FILES ${made}/${name}.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endfunction()
