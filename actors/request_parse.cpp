#include "actors/request_json.hpp"
#include "core/text/text_stream.hpp"

#include <nlohmann/json.hpp>

namespace moira {

namespace {

using nlohmann::json;

/// Builds a document while bounding it. Refuses what the default parser lets pass: deep nesting, a key twice.
class bounded_builder {
public:
    explicit bounded_builder(std::optional<std::string>* id) : id_(id) {}

    bool null() { return add(json(nullptr)); }
    bool boolean(bool value) { return add(json(value)); }
    bool number_integer(json::number_integer_t value) { return add(json(value)); }
    bool number_unsigned(json::number_unsigned_t value) { return add(json(value)); }

    bool number_float(json::number_float_t value, const std::string& text) {
        // A whole number too large for 64 bits arrives here; as a float it would silently be another number.
        if (text.find_first_of(".eE") == std::string::npos)
            return refuse(errc::invalid_argument, shown_key() + " is a number beyond 64 bits; send a smaller one");
        return add(json(value));
    }

    bool string(std::string& value) {
        if (id_ != nullptr && open_.size() == 1 && key_ == "id")
            *id_ = value;
        return add(json(std::move(value)));
    }

    bool binary(json::binary_t&) { return refuse(errc::invalid_json, "binary values are not JSON text"); }
    bool start_object(std::size_t) { return open(json::object()); }
    bool start_array(std::size_t) { return open(json::array()); }
    bool end_object() { return close(); }
    bool end_array() { return close(); }

    bool key(std::string& name) {
        key_ = std::move(name);
        if (open_.back()->contains(key_))
            return refuse(errc::invalid_json, "the key " + shown_key() + " stands twice in one object");
        return true;
    }

    bool parse_error(std::size_t position, const std::string&, const json::exception& what) {
        constexpr int number_overflow = 406; // nlohmann's number for 1e999 and the like
        if (what.id == number_overflow)
            return refuse(errc::invalid_argument, shown_key() + " is a number too large for a double");
        return refuse(errc::invalid_json, "not a JSON object: stopped at byte " + std::to_string(position));
    }

    json take() { return std::move(root_); }
    const std::optional<error>& failure() const { return failure_; }

private:
    /// The key in quotes, cut: it may be as long as the line.
    std::string shown_key() const {
        constexpr std::size_t shown_bytes_max = 64;
        std::string shown("`");
        shown.append(key_, 0, shown_bytes_max).append("`");
        return shown;
    }

    bool refuse(errc code, std::string message) {
        failure_ = error{code, std::move(message)};
        return false;
    }

    json* place(json&& value) {
        if (open_.empty()) {
            root_ = std::move(value);
            return &root_;
        }
        auto& parent = *open_.back();
        if (parent.is_array()) {
            parent.push_back(std::move(value));
            return &parent.back();
        }
        return &(parent[key_] = std::move(value));
    }

    bool add(json&& value) {
        if (++values_ > request_values_max)
            return refuse(errc::invalid_json, "more than " + std::to_string(request_values_max) + " values");
        place(std::move(value));
        return true;
    }

    bool open(json&& value) {
        if (open_.size() == request_depth_max)
            return refuse(errc::invalid_json, "nested deeper than " + std::to_string(request_depth_max));
        if (++values_ > request_values_max)
            return refuse(errc::invalid_json, "more than " + std::to_string(request_values_max) + " values");
        open_.push_back(place(std::move(value)));
        return true;
    }

    bool close() {
        open_.pop_back();
        return true;
    }

    json root_;
    std::vector<json*> open_; // an array moves its elements only while none of them is open
    std::string key_;
    std::optional<std::string>* id_;
    std::optional<error> failure_;
    std::size_t values_ = 0;
};

} // namespace

result<json> parse_request_json(std::string_view text, std::optional<std::string>* id) {
    // The parser takes a zero byte for the end of the text and would not look at what follows.
    if (text.find('\0') != std::string_view::npos)
        return fail(errc::invalid_json, "the text holds a zero byte; write \\u0000 inside a string");
    bounded_builder builder(id);
    const bool whole = json::sax_parse(text.begin(), text.end(), &builder);
    if (!whole || builder.failure()) {
        if (!is_utf8(text))
            return fail(errc::invalid_utf8, "the text is not UTF-8; encode it and send again");
        return tl::unexpected<error>(
            builder.failure().value_or(error{errc::invalid_json, "not a JSON object; send one complete object"}));
    }
    auto document = builder.take();
    if (!document.is_object())
        return fail(errc::invalid_json, std::string("found ") + document.type_name() + "; expected a JSON object");
    return document;
}

} // namespace moira
