// SPDX-License-Identifier: Apache-2.0
// `sev-owner sessions`, `verdict …` and `audit …`: what was done.
#include <array>
#include <fstream>

#include <fmt/format.h>

#include "attest/ear.hpp"
#include "attest/owner/program/commands.hpp"
#include "attest/owner/program/instance.hpp"
#include "attest/owner/session_json.hpp"

namespace sev::attest::owner {
namespace {

using cli::Kind;

constexpr std::size_t audit_piece = 1000;

constexpr std::array sessions_arguments{
    config_option,
    cli::Argument{.name = "--state",
                  .kind = Kind::choice,
                  .metavar = "STATE",
                  .help = "Only those in this state.",
                  .choices = "open|taken|trusted|not-trusted|troubled|expired|refused"},
    cli::Argument{.name = "--limit", .kind = Kind::number, .metavar = "N", .help = "At most this many, the newest. Default: 100."},
    cli::json_option,
};

cli::Answer run_sessions(const cli::Arguments& given, cli::Console& console) {
    Instance instance{given};
    const auto state = given.has("--state") ? session_state_named(given.text("--state")) : std::nullopt;
    const auto list = instance.store().sessions(given.number_if("--limit", 1, 100'000).value_or(100), state);
    if (console.json()) {
        json::Value out = with_format("xen-sev/owner-sessions", 1);
        out["sessions"] = json::Value::array();
        for (const SessionSummary& session : list) out["sessions"].push_back(session_json(session));
        console.print(out);
        return cli::Answer::yes;
    }
    std::string text;
    for (const SessionSummary& session : list)
        text += fmt::format("{}  {}  {:<11}  {}  {}  {}\n", hex(session.id), attest::text(session.created_at), name(session.state),
                            printable(session.launch_name), printable(session.policy_name), printable(session.channel));
    console.print(text);
    return cli::Answer::yes;
}

constexpr std::array verdict_show_arguments{
    config_option,
    cli::Argument{.name = "SESSION", .kind = Kind::text, .metavar = "SESSION", .help = "The session's id, 32 hex digits.", .required = true},
    cli::Argument{.name = "--ear", .kind = Kind::flag, .help = "Print the signed attestation result (EAR, a JWT) instead."},
    cli::json_option,
};

cli::Answer run_verdict_show(const cli::Arguments& given, cli::Console& console) {
    Instance instance{given};
    const auto session = instance.store().session(unhex<16>(given.text("SESSION"), "SESSION"));
    if (!session) throw Error{Fault::usage, fmt::format("there is no session {}", printable(given.text("SESSION")))};
    const bool judged = session->state == SessionState::trusted || session->state == SessionState::not_trusted;
    if (!judged) throw Error{Fault::usage, fmt::format("session {} was not judged: it is {}", hex(session->id), name(session->state))};
    const auto verdict = read_message<Verdict>(session->result, "stored verdict");
    if (given.has("--ear")) console.print(session->attestation_result + "\n");
    else if (console.json()) console.print(verdict.to_json());
    else console.print(render(verdict));
    return verdict.trusted() ? cli::Answer::yes : cli::Answer::no;
}

constexpr std::array verdict_verify_arguments{
    cli::Argument{.name = "--key",
                  .kind = Kind::input,
                  .metavar = "FILE",
                  .help = "The owner's public key, a JWK, as sev-owner key show prints it.",
                  .required = true,
                  .limit_bytes = 16 * 1024},
    cli::Argument{.name = "EAR",
                  .kind = Kind::input,
                  .metavar = "FILE",
                  .help = "The attestation result: a JWT.",
                  .required = true,
                  .limit_bytes = AttestationResult::limit_bytes},
    cli::json_option,
};

cli::Answer run_verdict_verify(const cli::Arguments& given, cli::Console& console) {
    const auto key = OwnerKey::from_json(json::parse(read_text(given.text("--key"), 16 * 1024), given.text("--key")), given.text("--key"));
    std::string jwt = read_text(given.text("EAR"), AttestationResult::limit_bytes);
    while (!jwt.empty() && (jwt.back() == '\n' || jwt.back() == '\r')) jwt.pop_back();
    const auto result = read_attestation_result(jwt, key, given.text("EAR"));
    if (console.json()) console.print(result.to_json());
    else console.print(render(result));
    return result.trusted ? cli::Answer::yes : cli::Answer::no;
}

constexpr std::array audit_show_arguments{
    config_option,
    cli::Argument{.name = "--from", .kind = Kind::number, .metavar = "N", .help = "First record. Default: 1."},
    cli::Argument{.name = "--limit", .kind = Kind::number, .metavar = "N", .help = "At most this many records. Default: all."},
};

cli::Answer run_audit_show(const cli::Arguments& given, cli::Console& console) {
    Instance instance{given};
    std::uint64_t next = given.number_if("--from", 1, INT64_MAX).value_or(1);
    std::uint64_t left = given.number_if("--limit", 1, INT64_MAX).value_or(INT64_MAX);
    while (left > 0) {
        const auto records = instance.store().audit_records(next, std::min<std::uint64_t>(audit_piece, left));
        for (const AuditRecord& record : records) console.print(record.text + "\n");
        if (records.empty()) break;
        left -= records.size();
        next = records.back().seq + 1;
    }
    return cli::Answer::yes;
}

constexpr std::array audit_verify_arguments{
    config_option,
    cli::Argument{.name = "--log",
                  .kind = Kind::input,
                  .metavar = "FILE",
                  .help = "Verify these records, as audit show prints them, and not the store's. Needs --key, and no configuration.",
                  .content = cli::Content::opaque},
    cli::Argument{.name = "--key",
                  .kind = Kind::input,
                  .metavar = "FILE",
                  .help = "With --log: the owner's public key, a JWK, as sev-owner key show prints it.",
                  .limit_bytes = 16 * 1024},
    cli::Argument{
        .name = "--head", .kind = Kind::text, .metavar = "N:SHA256", .help = "A head that was noted down earlier: the log must still contain it."},
    cli::json_option,
};

std::optional<AuditHead> head_from(const std::optional<std::string>& text) {
    if (!text) return std::nullopt;
    const std::size_t colon = text->find(':');
    if (colon == std::string::npos) throw Error{Fault::usage, fmt::format("--head is {}, want NUMBER:SHA256", printable(*text))};
    return AuditHead{.seq = cli::parse_number(text->substr(0, colon), "--head", 1, INT64_MAX), .hash = unhex<32>(text->substr(colon + 1), "--head")};
}

AuditVerifier::Summary verify_stored(const cli::Arguments& given, const std::optional<AuditHead>& known) {
    Instance instance{given};
    // the head first: records may be added while we read, and those after it are not asked about
    const AuditHead stored = instance.store().audit_head();
    AuditVerifier verifier{instance.service().key(), known};
    for (std::uint64_t next = 1; next <= stored.seq;) {
        const auto records = instance.store().audit_records(next, std::min<std::uint64_t>(audit_piece, stored.seq - next + 1));
        if (records.empty()) break;
        for (const AuditRecord& record : records) verifier.add(record);
        next = records.back().seq + 1;
    }
    return verifier.finish(stored);
}

/// A log that was carried elsewhere: whoever has it there needs neither the store nor a private key. It says by its signatures alone whose it is.
AuditVerifier::Summary verify_file(const Path& log, const OwnerKey& key, const std::optional<AuditHead>& known) {
    std::ifstream in{log, std::ios::binary};
    if (!in) throw Error{Fault::system, fmt::format("{}: cannot be read", log.string())};
    AuditVerifier verifier{key, known};
    AuditHead head;
    std::array<char, audit_record_limit_bytes + 1> line{}; // and its end
    while (in.getline(line.data(), line.size())) {
        const AuditRecord record{.seq = head.seq + 1, .text = std::string{line.data(), static_cast<std::size_t>(in.gcount()) - (in.eof() ? 0 : 1)}};
        verifier.add(record);
        head = head_after(record);
    }
    if (in.bad()) throw Error{Fault::system, fmt::format("{}: cannot be read to its end", log.string())};
    if (!in.eof())
        throw Error{Fault::malformed, fmt::format("audit record {}: is longer than {} bytes", head.seq + 1, audit_record_limit_bytes)};
    const auto summary = verifier.finish(head);
    if (summary.signatures == 0)
        throw Error{Fault::malformed,
                    fmt::format("audit log: none of its {} records bears the owner's signature: anybody can have written it", head.seq)};
    return summary;
}

cli::Answer run_audit_verify(const cli::Arguments& given, cli::Console& console) {
    const auto known = head_from(given.text_if("--head"));
    if (given.has("--log") != given.has("--key")) throw Error{Fault::usage, "--log and --key are needed together"};
    if (given.has("--log") && given.has("--config")) throw Error{Fault::usage, "--log is verified without a configuration: --config is not wanted"};
    std::string problem;
    AuditVerifier::Summary summary;
    std::optional<OwnerKey> key;
    if (given.has("--key"))
        key = OwnerKey::from_json(json::parse(read_text(given.text("--key"), 16 * 1024), given.text("--key")), given.text("--key"));
    try {
        summary = key ? verify_file(given.text("--log"), *key, known) : verify_stored(given, known);
    } catch (const Error& error) {
        if (error.fault() != Fault::malformed) throw;
        problem = error.what();
    }
    if (console.json()) {
        json::Value out = with_format("xen-sev/owner-audit-verify", 1);
        out["intact"] = problem.empty();
        if (problem.empty())
            out["records"] = summary.head.seq, out["head"] = hex(summary.head.hash), out["signatures"] = summary.signatures,
            out["unsigned_records"] = summary.unsigned_tail;
        else out["problem"] = problem;
        console.print(out);
    } else if (problem.empty()) {
        console.print(fmt::format("{} records, {} signatures, {} records after the last one\nhead {}:{}\n", summary.head.seq, summary.signatures,
                                  summary.unsigned_tail, summary.head.seq, hex(summary.head.hash)));
    } else {
        console.print("NOT INTACT: " + printable(problem, 1000) + "\n");
    }
    return problem.empty() ? cli::Answer::yes : cli::Answer::no;
}

constexpr std::array audit_sign_arguments{config_option};

cli::Answer run_audit_sign(const cli::Arguments& given, cli::Console& console) {
    Instance instance{given};
    const AuditHead head = instance.store().sign_audit(now());
    console.print(fmt::format("head {}:{}\n", head.seq, hex(head.hash)));
    return cli::Answer::yes;
}

} // namespace

const cli::Command sessions_list_command{
    .name = "sessions list",
    .summary = "list sessions and what became of them",
    .text = "Prints id, time, state, launch, policy and channel, the newest first. A session that stays \"taken\" was being judged when its instance "
            "died; it is never judged again.",
    .example = "sev-owner sessions list --state open",
    .arguments = sessions_arguments,
    .run = run_sessions,
    .handles_keys = true,
};

const cli::Command verdict_show_command{
    .name = "verdict show",
    .summary = "print the verdict on a session",
    .text = "Prints every check of a judged session with its result, or, with --ear, the signed attestation result (draft-ietf-rats-ear, a JWT) for "
            "third parties. Exit status 1 when it is not trusted.",
    .example = "sev-owner verdict show 00112233445566778899aabbccddeeff",
    .arguments = verdict_show_arguments,
    .run = run_verdict_show,
    .handles_keys = true,
};

const cli::Command verdict_verify_command{
    .name = "verdict verify",
    .summary = "verify a signed attestation result under an owner's public key",
    .text = "Verifies the signature of an EAR under the key given, reads it strictly, and prints what it says. Needs no configuration. Exit status 1 "
            "when the result is genuine and says not trusted; 2 when it is not genuine.",
    .example = "sev-owner verdict verify --key owner.jwk result.jwt",
    .arguments = verdict_verify_arguments,
    .run = run_verdict_verify,
};

const cli::Command audit_show_command{
    .name = "audit show",
    .summary = "print the audit log, a record a line",
    .text = "Prints the records (JSON, one a line), each with the SHA-256 of the line before it.",
    .example = "sev-owner audit show --from 100",
    .arguments = audit_show_arguments,
    .run = run_audit_show,
    .handles_keys = true,
};

const cli::Command audit_verify_command{
    .name = "audit verify",
    .summary = "verify the audit log's chain and signatures",
    .text = "Reads the whole log and checks that every record follows the one before it, and that every signature over the log's head is the "
            "owner's. Prints the head: note it down elsewhere, and give it to --head next time, "
            "so that a log whose end was cut off, or that was written anew, is noticed. Exit status 1 when the log is not intact.\n\n"
            "With --log and --key an auditor verifies what audit show printed, without the store and without a private key. Records after the last "
            "signature are chained and no more; a log without any signature is not intact.",
    .example = "sev-owner audit verify --key owner.jwk --log audit.jsonl",
    .arguments = audit_verify_arguments,
    .run = run_audit_verify,
    .handles_keys = true,
};

const cli::Command audit_sign_command{
    .name = "audit sign",
    .summary = "sign the audit log's head now",
    .text = "Appends a record with the owner's signature over the head, unless the last record is one, and prints the head.",
    .example = "sev-owner audit sign",
    .arguments = audit_sign_arguments,
    .run = run_audit_sign,
    .handles_keys = true,
};

} // namespace sev::attest::owner
