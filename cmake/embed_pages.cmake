# SPDX-License-Identifier: Apache-2.0
# cmake -DPAGES=DIRECTORY -DOUT=FILE -P embed_pages.cmake: makes sev::cli::check_pages() (sevctl/check_pages.hpp) out of the pages, so that their text is
# written once.
file(GLOB pages ${PAGES}/*.md)
list(SORT pages)
set(entries "")
foreach(page IN LISTS pages)
    get_filename_component(id "${page}" NAME_WE)
    if(id STREQUAL "README")
        continue()
    endif()
    file(READ "${page}" text)
    string(APPEND entries "    {\"${id}\", R\"page(${text})page\"},\n")
endforeach()
file(WRITE "${OUT}" "// Made from ${PAGES} by cmake/embed_pages.cmake.
#include \"sevctl/check_pages.hpp\"

#include <array>

namespace sev::cli {

std::span<const CheckPage> check_pages() {
    static constexpr auto pages = std::to_array<CheckPage>({
${entries}    });
    return pages;
}

} // namespace sev::cli
")
