#pragma once

#include "core/base/error.hpp"

#include <string>

namespace moira {

/// Ctrl-C as a number and as something that a wait can be woken by. One per process: signals are.
class interrupt_watch {
public:
    /// Takes SIGINT from now on. A third one without reset() ends the process: whoever presses that often means it.
    static result<interrupt_watch> start();

    int count() const noexcept;

    /// Forgets what was pressed so far.
    void reset() const noexcept;

    /// Readable while count() is not 0.
    int descriptor() const noexcept { return descriptor_; }

private:
    explicit interrupt_watch(int descriptor) : descriptor_(descriptor) {}
    int descriptor_;
};

/// Lines of a terminal or a pipe.
class line_input {
public:
    enum class outcome { line, end, interrupted };

    line_input(int descriptor, interrupt_watch interrupts) : descriptor_(descriptor), interrupts_(interrupts) {}

    /// The next line without its end; the last one may lack it. Errors: io_error, prompt_too_long (more than
    /// input_bytes_max).
    result<outcome> read(std::string& line);

private:
    bool take_line(std::string& line);

    int descriptor_;
    interrupt_watch interrupts_;
    std::string buffer_;
    std::size_t searched_ = 0; ///< of buffer_, without a line end
    bool ended_ = false;
};

} // namespace moira
