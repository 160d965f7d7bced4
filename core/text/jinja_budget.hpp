#pragma once

#include "core/base/error.hpp"

#include <cstddef>
#include <string>

namespace moira {

/// How the parts of the interpreter tell each other that they cannot go on. It never leaves chat_template.
struct jinja_failure {
    error what;
    bool is_final = false; ///< the message needs no line in front: it has one, or it is the template's own words
};

[[noreturn]] inline void jinja_fail(errc code, std::string message) {
    throw jinja_failure{{code, std::move(message)}, false};
}

[[noreturn]] inline void jinja_fail_at(errc code, std::size_t line, const std::string& message) {
    throw jinja_failure{{code, "chat template, line " + std::to_string(line) + ": " + message}, true};
}

/// The work that one rendering may still do. Time and memory follow what is charged here, so that neither a template
/// nor a conversation can make a rendering run away. Throws jinja_failure (invalid_argument) when it is used up.
class jinja_budget {
public:
    jinja_budget(std::size_t steps_max, std::size_t output_bytes_max)
        : steps_(steps_max), output_bytes_max_(output_bytes_max), bytes_(output_bytes_max * touched_per_output_byte) {}

    /// One statement, expression, or value that is visited inside of another.
    void step() {
        if (steps_ == 0)
            jinja_fail(errc::invalid_argument, "the chat template does not come to an end within its limit of steps");
        --steps_;
    }

    /// Existing bytes (or elements) that are read or compared.
    void touch(std::size_t bytes) {
        if (bytes > bytes_)
            jinja_fail(errc::invalid_argument, "the chat template needs too much work for this conversation");
        bytes_ -= bytes;
    }

    /// New bytes that may stay: dearer, because they bound memory (an eighth of `bytes_`).
    void make(std::size_t bytes) {
        if (bytes > output_bytes_max_)
            jinja_fail(errc::invalid_argument, "the chat template makes a text over its limit of bytes");
        touch(bytes * touched_per_made_byte);
    }

    std::size_t output_bytes_max() const { return output_bytes_max_; }

private:
    // A template reads each message a few times and builds a few copies of it: 8 copies and 64 readings of the
    // largest output leave ample room and stay below a second and, at the default limits, 128 MiB.
    static constexpr std::size_t touched_per_output_byte = 64;
    static constexpr std::size_t touched_per_made_byte = 8;

    std::size_t steps_;
    std::size_t output_bytes_max_;
    std::size_t bytes_;
};

} // namespace moira
