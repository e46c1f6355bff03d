// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    Argument{.name = "CERT",
             .kind = Kind::output,
             .metavar = "CERT",
             .help = "Where to write the OCA certificate (binary, 2084 bytes).",
             .required = true},
    Argument{.name = "KEY",
             .kind = Kind::output,
             .metavar = "KEY",
             .help = "Where to write its private key (DER, mode 0600).",
             .required = true,
             .secret = true},
    force_option,
    json_option,
};

Answer run(const Arguments& given, Console& console) {
    const Path certificate_file{given.text("CERT")}, key_file{given.text("KEY")};
    check_output(certificate_file);
    check_output(key_file);
    if (certificate_file.lexically_normal() == key_file.lexically_normal())
        throw Error{Fault::usage, "CERT and KEY: " + shown(key_file) + " is named for both, want two files"};

    const P384Key key = P384Key::generate();
    psp::SevCertificate oca = psp::unsigned_certificate(psp::Usage::oca, psp::Algorithm::ecdsa_sha256, {0, 0}, key.public_point());
    psp::sign(oca, 0, psp::Usage::oca, key);

    FileSet files{given.existing()};
    files.stage(certificate_file, oca.serialize(), Visibility::readable);
    files.stage(key_file, key.to_der().reveal(), Visibility::secret);
    files.commit();
    if (console.json()) {
        json::Value result = result_of(given);
        result["certificate"] = certificate_file.string();
        result["key"] = key_file.string();
        result["fingerprint"] = hex(oca.fingerprint());
        console.print(result);
    }
    return Answer::yes;
}

} // namespace

const Command generate_command{
    .name = "generate",
    .summary = "make a self-signed OCA certificate and its key",
    .text = "Makes a key pair on P-384 and a self-signed owner's certificate (OCA) for it, with which a platform's owner takes a platform over. "
            "Both files appear, or neither. Files that exist are left alone unless --force is given.",
    .example = "sevctl generate oca.cert oca.key",
    .arguments = arguments,
    .run = run,
    .handles_keys = true,
};

} // namespace sev::cli
