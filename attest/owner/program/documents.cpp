// SPDX-License-Identifier: Apache-2.0
// `sev-owner policy …` and `sev-owner secret …`: what lies in the store.
#include <array>

#include <fmt/format.h>

#include "attest/owner/program/commands.hpp"
#include "attest/owner/program/instance.hpp"
#include "attest/secret_packet.hpp"

namespace sev::attest::owner {
namespace {

using cli::Kind;

constexpr cli::Argument name_argument{
    .name = "NAME", .kind = Kind::text, .metavar = "NAME", .help = "1 to 64 of A-Z a-z 0-9 . _ -, no dot in front.", .required = true};

void expect_stored_policies(const Instance& instance) {
    if (!instance.config().policies.in_store)
        throw Error{Fault::usage, fmt::format("policies are the files of {}, not in the store", instance.config().policies.folder.string()),
                    "copy NAME.json there, or set \"policies\": {\"in_store\": true, …}"};
}

constexpr std::array policy_list_arguments{config_option, cli::json_option};

cli::Answer run_policy_list(const cli::Arguments& given, cli::Console& console) {
    Instance instance{given};
    json::Value list = json::Value::array();
    std::string text;
    bool all_good = true;
    for (const std::string& name : instance.policies().names()) {
        json::Value entry{{"name", name}};
        try {
            const auto snapshot = instance.policies().get(name);
            entry["owner"] = snapshot->policy.owner;
            entry["snapshot"] = hex(snapshot->digest);
            entry["references"] = json::Value::array();
            for (const Reference& reference : snapshot->references)
                entry["references"].push_back({{"name", reference.name}, {"digest", hex(reference.digest)}});
            text += fmt::format("{}  {} references  snapshot {}\n", name, snapshot->references.size(), hex(snapshot->digest));
        } catch (const Error& error) {
            all_good = false;
            entry["problem"] = error.what();
            text += fmt::format("{}  CANNOT BE USED: {}\n", name, printable(error.what(), 400));
        }
        list.push_back(std::move(entry));
    }
    if (console.json()) {
        json::Value out = with_format("xen-sev/owner-policies", 1);
        out["policies"] = std::move(list);
        console.print(out);
    } else {
        console.print(text);
    }
    return all_good ? cli::Answer::yes : cli::Answer::no;
}

constexpr std::array policy_add_arguments{
    config_option,
    name_argument,
    cli::Argument{.name = "FILE",
                  .kind = Kind::input,
                  .metavar = "FILE",
                  .help = "The policy (JSON, docs/schemas/owner-policy.schema.json).",
                  .required = true,
                  .limit_bytes = OwnerPolicy::limit_bytes},
};

cli::Answer run_policy_add(const cli::Arguments& given, cli::Console& console) {
    Instance instance{given};
    expect_stored_policies(instance);
    const std::string name = checked_policy_name(given.text("NAME"), "NAME");
    const std::string text = read_text(given.text("FILE"), OwnerPolicy::limit_bytes);
    const auto policy = OwnerPolicy::parse(text, given.text("FILE"), instance.config().policies.folder);
    const auto references = resolve_references(policy); // a policy that cannot be used is not taken in
    instance.store().put_document(sealed_document(instance.seal_keys(), "policy", name, as_bytes(text)),
                                  operator_event("policy.stored", fmt::format("{}, SHA-256 {}", name, hex(sha256(as_bytes(text))))), now());
    console.print(fmt::format("policy {} stored; {} references\n", name, references.size()));
    return cli::Answer::yes;
}

constexpr std::array remove_arguments{config_option, name_argument};

cli::Answer run_policy_remove(const cli::Arguments& given, cli::Console&) {
    Instance instance{given};
    expect_stored_policies(instance);
    const std::string name = checked_policy_name(given.text("NAME"), "NAME");
    return instance.store().remove_document("policy", name, operator_event("policy.removed", name), now()) ? cli::Answer::yes : cli::Answer::no;
}

constexpr std::array secret_add_arguments{
    config_option,
    name_argument,
    cli::Argument{.name = "FILE",
                  .kind = Kind::input,
                  .metavar = "FILE",
                  .help = "The secret's bytes.",
                  .required = true,
                  .content = cli::Content::opaque,
                  .limit_bytes = secret_limit_bytes},
};

cli::Answer run_secret_add(const cli::Arguments& given, cli::Console& console) {
    Instance instance{given};
    const std::string name = checked_policy_name(given.text("NAME"), "NAME");
    const SecretBytes bytes = read_secret(given.text("FILE"), secret_limit_bytes);
    if (bytes.size() == 0) throw Error{Fault::usage, given.text("FILE") + ": 0 bytes, want a secret"};
    instance.store().put_document(sealed_document(instance.seal_keys(), "secret", name, bytes.reveal()), operator_event("secret.stored", name),
                                  now());
    console.print(fmt::format("secret {} stored; policies name it as \"path\": \"{}{}\"\n", name, stored_secret_prefix, name));
    return cli::Answer::yes;
}

constexpr std::array secret_list_arguments{config_option, cli::json_option};

cli::Answer run_secret_list(const cli::Arguments& given, cli::Console& console) {
    Instance instance{given};
    json::Value list = json::Value::array();
    std::string text;
    for (const Document& document : instance.store().documents("secret")) {
        const std::string key = document.sealed ? document.sealed->key_id : std::string{};
        list.push_back({{"name", document.name}, {"changed_at", attest::text(document.changed_at)}, {"seal_key", key}});
        text += fmt::format("{}  {}  seal key {}\n", document.name, attest::text(document.changed_at), key);
    }
    if (console.json()) {
        json::Value out = with_format("xen-sev/owner-secrets", 1);
        out["secrets"] = std::move(list);
        console.print(out);
    } else {
        console.print(text);
    }
    return cli::Answer::yes;
}

cli::Answer run_secret_remove(const cli::Arguments& given, cli::Console&) {
    Instance instance{given};
    const std::string name = checked_policy_name(given.text("NAME"), "NAME");
    return instance.store().remove_document("secret", name, operator_event("secret.removed", name), now()) ? cli::Answer::yes : cli::Answer::no;
}

} // namespace

const cli::Command policy_list_command{
    .name = "policy list",
    .summary = "list the owner's policies, with their references computed",
    .text = "Prints each policy's name, how many references it has, and its snapshot: the SHA-256 over its text and its references' files that "
            "sessions are bound to. Exit status 1 when one cannot be used.",
    .example = "sev-owner policy list",
    .arguments = policy_list_arguments,
    .run = run_policy_list,
    .handles_keys = true,
};

const cli::Command policy_add_command{
    .name = "policy add",
    .summary = "store a policy",
    .text = "Reads a policy, computes its references, and puts it into the store under NAME, in place of one that is there, encrypted under the seal "
            "key and bound to its name: what anybody else writes there is refused. Open sessions under the old one will not be judged any more. For "
            "configurations with \"in_store\".",
    .example = "sev-owner policy add web web.json",
    .arguments = policy_add_arguments,
    .run = run_policy_add,
    .handles_keys = true,
};

const cli::Command policy_remove_command{
    .name = "policy remove",
    .summary = "remove a stored policy",
    .text = "Removes a policy from the store. Exit status 1 when there is none of that name.",
    .example = "sev-owner policy remove web",
    .arguments = remove_arguments,
    .run = run_policy_remove,
    .handles_keys = true,
};

const cli::Command secret_add_command{
    .name = "secret add",
    .summary = "store a secret, sealed",
    .text = "Puts a secret into the store, encrypted with AES-256-GCM under the seal key and bound to its name, in place of one that is there. A "
            "policy names it as \"path\": \"store:NAME\".",
    .example = "sev-owner secret add disk disk.key",
    .arguments = secret_add_arguments,
    .run = run_secret_add,
    .handles_keys = true,
};

const cli::Command secret_list_command{
    .name = "secret list",
    .summary = "list stored secrets, by name",
    .text = "Prints names, times and seal keys; never a secret.",
    .example = "sev-owner secret list",
    .arguments = secret_list_arguments,
    .run = run_secret_list,
    .handles_keys = true,
};

const cli::Command secret_remove_command{
    .name = "secret remove",
    .summary = "remove a stored secret",
    .text = "Removes a secret from the store. Exit status 1 when there is none of that name.",
    .example = "sev-owner secret remove disk",
    .arguments = remove_arguments,
    .run = run_secret_remove,
    .handles_keys = true,
};

} // namespace sev::attest::owner
