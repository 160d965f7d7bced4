#include "core/text/tokenizer_steps_json.hpp"

#include <string_view>
#include <utility>

namespace moira {
namespace {

/// Most steps of one file, counting those in nested sequences: published ones have at most five. Bounds the work per
/// byte of text.
constexpr std::size_t steps_max = 32;

/// Most tokens that a post-processor may add on either side; published ones add one or two.
constexpr std::size_t template_tokens_max = 64;

/// Calls `take(place, type)` for a component, or for each part of a Sequence of components. The parser has bounded
/// how deep sequences nest.
template <class Take>
result<void> for_each_component(const json_place& place, const char* list_key, Take&& take) {
    if (place.is_null())
        return {};
    if (auto shape = place.expect_object(); !shape)
        return shape;
    const auto type = place.member("type").string();
    if (!type)
        return tl::make_unexpected(type.error());
    if (*type != "Sequence")
        return take(place, *type);
    const json_place list = place.member(list_key);
    if (auto shape = list.expect_array(); !shape)
        return shape;
    for (std::size_t i = 0; i < list.size(); ++i)
        if (auto done = for_each_component(list.element(i), list_key, take); !done)
            return done;
    return {};
}

result<split_behavior> read_behavior(const json_place& place) {
    const auto name = place.string();
    if (!name)
        return tl::make_unexpected(name.error());
    constexpr std::pair<std::string_view, split_behavior> known[] = {
        {"Isolated", split_behavior::isolated},
        {"Removed", split_behavior::removed},
        {"MergedWithPrevious", split_behavior::merged_with_previous},
        {"MergedWithNext", split_behavior::merged_with_next},
        {"Contiguous", split_behavior::contiguous}};
    for (const auto& [spelling, behavior] : known)
        if (*name == spelling)
            return behavior;
    return place.unsupported("the behavior '" + *name + "'");
}

result<split_pattern> read_pattern(const json_place& place) {
    if (const json_place regex = place.member("Regex"); !regex.is_null()) {
        const auto text = regex.string();
        if (!text)
            return tl::make_unexpected(text.error());
        auto pattern = split_pattern::regex(*text);
        if (!pattern)
            return fail(pattern.error().code, regex.path() + ": " + pattern.error().message);
        return pattern;
    }
    const auto text = place.member("String").string();
    if (!text)
        return place.wrong("{\"Regex\": ...} or {\"String\": ...}");
    return split_pattern::literal(*text);
}

result<void> read_split(const json_place& place, pre_tokenizer& cutter) {
    auto pattern = read_pattern(place.member("pattern"));
    if (!pattern)
        return tl::make_unexpected(pattern.error());
    const auto behavior = read_behavior(place.member("behavior"));
    if (!behavior)
        return tl::make_unexpected(behavior.error());
    const auto invert = place.member("invert").boolean(false);
    if (!invert)
        return tl::make_unexpected(invert.error());
    cutter.add_split({std::move(*pattern), *behavior, *invert});
    return {};
}

result<void> read_digits(const json_place& place, pre_tokenizer& cutter) {
    const auto individual = place.member("individual_digits").boolean(false);
    if (!individual)
        return tl::make_unexpected(individual.error());
    auto pattern = split_pattern::regex(R"(\p{N})");
    if (!pattern)
        return tl::make_unexpected(pattern.error());
    const auto behavior = *individual ? split_behavior::isolated : split_behavior::contiguous;
    cutter.add_split({std::move(*pattern), behavior, false});
    return {};
}

result<void> read_byte_level(const json_place& place, pre_tokenizer& cutter) {
    const auto prefix_space = place.member("add_prefix_space").boolean(true);
    if (!prefix_space)
        return tl::make_unexpected(prefix_space.error());
    const auto use_regex = place.member("use_regex").boolean(true);
    if (!use_regex)
        return tl::make_unexpected(use_regex.error());
    return cutter.add_byte_level(*prefix_space, *use_regex);
}

struct template_tokens {
    std::vector<token_id> prefix;
    std::vector<token_id> suffix;
};

/// Appends the ids that a SpecialToken of a template stands for.
result<void> read_template_token(const json_place& name, const json_place& table, const vocabulary& tokens,
                                 std::vector<token_id>& ids) {
    const auto key = name.string();
    if (!key)
        return tl::make_unexpected(key.error());
    const json_place list = table.member(key->c_str()).member("ids");
    if (auto shape = list.expect_array(); !shape)
        return shape;
    for (std::size_t i = 0; i < list.size(); ++i) {
        const auto id = list.element(i).integer();
        if (!id)
            return tl::make_unexpected(id.error());
        if (*id < 0 || *id > vocabulary::id_max || tokens.find(static_cast<token_id>(*id)) == nullptr)
            return fail(errc::corrupt_file,
                        list.element(i).path() + ": token id " + std::to_string(*id) + " is not in the vocabulary");
        if (ids.size() == template_tokens_max)
            return list.wrong("at most " + std::to_string(template_tokens_max) + " tokens");
        ids.push_back(static_cast<token_id>(*id));
    }
    return {};
}

result<template_tokens> read_template(const json_place& place, const vocabulary& tokens) {
    const json_place single = place.member("single");
    if (auto shape = single.expect_array(); !shape)
        return tl::make_unexpected(shape.error());
    template_tokens read;
    bool seen_text = false;
    for (std::size_t i = 0; i < single.size(); ++i) {
        const json_place part = single.element(i);
        if (const json_place token = part.member("SpecialToken"); !token.is_null()) {
            auto done = read_template_token(token.member("id"), place.member("special_tokens"), tokens,
                                            seen_text ? read.suffix : read.prefix);
            if (!done)
                return tl::make_unexpected(done.error());
        } else if (part.member("Sequence").member("id").value() == "A" && !seen_text) {
            seen_text = true;
        } else {
            return part.unsupported("this part of a template; it reads SpecialToken, and Sequence A once");
        }
    }
    if (!seen_text)
        return single.wrong("a template with Sequence A");
    return read;
}

} // namespace

result<void> check_normalizer(const json_place& place) {
    return for_each_component(place, "normalizers", [](const json_place& part, const std::string& type) {
        return result<void>(part.unsupported("the normalizer '" + type + "'"));
    });
}

result<void> read_pre_tokenizer(const json_place& place, pre_tokenizer& cutter) {
    std::size_t steps = 0;
    auto done = for_each_component(
        place, "pretokenizers", [&](const json_place& part, const std::string& type) -> result<void> {
            if (++steps > steps_max)
                return fail(errc::corrupt_file, part.path() + ": more than " + std::to_string(steps_max) + " steps");
            if (cutter.has_byte_level())
                return part.unsupported("a pre-tokenizer '" + type + "' behind ByteLevel");
            if (type == "Split")
                return read_split(part, cutter);
            if (type == "Digits")
                return read_digits(part, cutter);
            if (type == "ByteLevel")
                return read_byte_level(part, cutter);
            return part.unsupported("the pre-tokenizer '" + type + "'");
        });
    if (done && !cutter.has_byte_level())
        return place.unsupported("a BPE whose pre-tokenizer is not ByteLevel");
    return done;
}

result<void> check_decoder(const json_place& place) {
    bool has_byte_level = false;
    auto done =
        for_each_component(place, "decoders", [&](const json_place& part, const std::string& type) -> result<void> {
            if (type != "ByteLevel")
                return part.unsupported("the decoder '" + type + "'");
            has_byte_level = true;
            return {};
        });
    if (done && !has_byte_level)
        return place.unsupported("a decoder other than ByteLevel");
    return done;
}

result<void> read_post_processor(const json_place& place, tokenizer_parts& parts) {
    return for_each_component(place, "processors",
                              [&](const json_place& part, const std::string& type) -> result<void> {
                                  if (type == "ByteLevel")
                                      return {}; // trims offsets only
                                  if (type != "TemplateProcessing")
                                      return part.unsupported("the post-processor '" + type + "'");
                                  auto read = read_template(part, parts.tokens);
                                  if (!read)
                                      return tl::make_unexpected(read.error());
                                  // A later template wraps what an earlier one made.
                                  parts.prefix.insert(parts.prefix.begin(), read->prefix.begin(), read->prefix.end());
                                  parts.suffix.insert(parts.suffix.end(), read->suffix.begin(), read->suffix.end());
                                  return {};
                              });
}

} // namespace moira
