#include "tools/moira/answer_printer.hpp"

#include <cstdio>

namespace moira {

void answer_printer::show(const output_event& event) {
    for (const auto& token : event.tokens)
        write(token.text);
    write(event.tail_text);
}

void answer_printer::write(const std::string& text) {
    if (text.empty() || lost_)
        return;
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
        lost_ = true;
}

} // namespace moira
