#include "core/text/chat_template.hpp"

#include "core/text/jinja_evaluator.hpp"
#include "core/text/jinja_parser.hpp"
#include "core/text/json_reading.hpp"
#include "core/base/read_only_file.hpp"
#include "core/text/text_stream.hpp"

namespace moira {
namespace {

/// tokenizer_config.json lists added tokens and the template: real ones stay below 1 MiB.
constexpr std::size_t config_bytes_max = std::size_t{16} << 20;

/// bos_token and the like: a string, or the description of an added token.
result<std::string> read_token_text(const json_place& place) {
    if (place.is_null())
        return std::string();
    return place.is_object() ? place.member("content").string() : place.string();
}

/// The template itself, or of several named ones the default.
result<std::string> read_template_text(const json_place& place) {
    if (!place.value().is_array())
        return place.string();
    for (std::size_t i = 0; i < place.size(); ++i)
        if (place.element(i).member("name").value() == "default")
            return place.element(i).member("template").string();
    return fail(errc::not_found, place.path() + ": no template is named 'default'");
}

} // namespace

struct chat_template::impl {
    jinja_body body;
    limits bounds;
    std::string bos_token;
    std::string eos_token;

    result<std::string> render(jinja_members variables) const {
        jinja_budget budget(bounds.steps_max, bounds.output_bytes_max);
        jinja_evaluator evaluator(std::move(variables), budget);
        try {
            return evaluator.run(body);
        } catch (jinja_failure& failure) {
            if (!failure.is_final)
                failure.what.message =
                    "chat template, line " + std::to_string(evaluator.line()) + ": " + failure.what.message;
            // Whatever stops a rendering, it is this conversation that cannot be written with this template.
            return fail(errc::invalid_argument, std::move(failure.what.message));
        }
    }
};

chat_template::chat_template(std::unique_ptr<impl> parts) : impl_(std::move(parts)) {}
chat_template::chat_template(chat_template&&) noexcept = default;
chat_template& chat_template::operator=(chat_template&&) noexcept = default;
chat_template::~chat_template() = default;

result<chat_template> chat_template::parse(std::string_view source, const limits& bounds) {
    if (source.size() > bounds.template_bytes_max)
        return fail(errc::corrupt_file, "a chat template of " + std::to_string(source.size()) + " bytes; at most " +
                                            std::to_string(bounds.template_bytes_max));
    if (!is_utf8(source))
        return fail(errc::corrupt_file, "the chat template is not UTF-8");
    try {
        return chat_template(std::make_unique<impl>(impl{parse_jinja(source, bounds.depth_max), bounds, {}, {}}));
    } catch (jinja_failure& failure) {
        return tl::make_unexpected(std::move(failure.what));
    }
}

result<chat_template> chat_template::load(const std::filesystem::path& folder) {
    const std::filesystem::path path = folder / "tokenizer_config.json";
    const auto text = read_text_file(path, config_bytes_max);
    if (!text)
        return tl::make_unexpected(text.error());
    const auto document = parse_json_file(*text, path.string());
    if (!document)
        return tl::make_unexpected(document.error());
    const json_place root(*document, path.string() + ": $");
    // A file of its own wins: transformers writes it when a template is too long for JSON to be readable.
    auto source = read_text_file(folder / "chat_template.jinja", limits{}.template_bytes_max);
    if (!source && source.error().code != errc::not_found)
        return tl::make_unexpected(source.error());
    if (!source) {
        if (root.member("chat_template").is_null())
            return fail(errc::not_found, path.string() + " has no chat_template, nor is there a chat_template.jinja");
        source = read_template_text(root.member("chat_template"));
        if (!source)
            return tl::make_unexpected(source.error());
    }
    const auto bos = read_token_text(root.member("bos_token"));
    const auto eos = read_token_text(root.member("eos_token"));
    if (!bos || !eos)
        return tl::make_unexpected(bos ? eos.error() : bos.error());
    auto parsed = parse(*source);
    if (parsed) {
        parsed->impl_->bos_token = *bos;
        parsed->impl_->eos_token = *eos;
    }
    return parsed;
}

result<std::string> chat_template::render(const std::vector<chat_message>& messages, bool add_generation_prompt) const {
    jinja_items list;
    list.reserve(messages.size());
    for (const chat_message& message : messages)
        list.push_back(jinja_value::of(
            jinja_members{{"role", jinja_value::of(message.role)}, {"content", jinja_value::of(message.content)}}));
    return impl_->render({{"messages", jinja_value::of(std::move(list))},
                          {"add_generation_prompt", jinja_value::of(add_generation_prompt)},
                          {"bos_token", jinja_value::of(impl_->bos_token)},
                          {"eos_token", jinja_value::of(impl_->eos_token)},
                          {"tools", jinja_value::of_none()},
                          {"documents", jinja_value::of_none()}});
}

result<std::string> chat_template::render(const nlohmann::ordered_json& variables) const {
    if (!variables.is_object())
        return fail(errc::invalid_argument, "the variables of a chat template must be a JSON object");
    try {
        const jinja_value converted = jinja_value::from_json(variables);
        return impl_->render(*converted.members());
    } catch (jinja_failure& failure) {
        return tl::make_unexpected(std::move(failure.what));
    }
}

} // namespace moira
