// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "sevctl/certificate_forms.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/platform.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    Argument{.name = "FILE",
             .kind = Kind::output,
             .metavar = "FILE",
             .help = "Where to write the signing request (2084 bytes); - is stdout.",
             .required = true},
    form_option,
    device_option,
    force_option,
    json_option,
};

Answer run(const Arguments& given, Console& console) {
    const Path file{given.text("FILE")};
    if (file != "-") check_output(file);
    if (file == "-" && console.json()) throw Error{Fault::usage, "FILE is -, and --json wants stdout too: want one of them"};
    Platform platform{given, console, psp::ccp::Access::read_write};
    const psp::SevCertificate request = psp::run(platform.firmware(), psp::PekCsr{});
    write_output(console, file, in_form(request, given.text_if(form_option.name).value_or("binary")), Visibility::readable, given.existing());
    if (console.json()) {
        json::Value result = platform_result(given, platform);
        result["file"] = file.string();
        result["fingerprint"] = hex(request.fingerprint());
        console.print(result);
    }
    return Answer::yes;
}

} // namespace

const Command pek_csr_command{
    .name = "pek-csr",
    .summary = "get the PEK's signing request",
    .text = "Asks the PSP for its PEK with both signatures empty, for an owner to sign who keeps the OCA's key elsewhere. 'sevctl provision' does "
            "the whole of it where "
            "the key is at hand. Needs write access to the device.",
    .example = "sevctl pek-csr pek.csr",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
