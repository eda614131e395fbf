// text.h - text in a fixed buffer. Instead of stdio, whose buffers and locale tables would make up
// most of an idle monitor's memory.

#ifndef MYDOCKER_TEXT_H
#define MYDOCKER_TEXT_H

#include <stdint.h>
#include <string.h>

struct text {
    char *data;
    uint32_t size, length;  // what does not fit is cut
};

static inline void text_bytes(struct text *t, const char *bytes, size_t length) {
    if (length > t->size - t->length)
        length = t->size - t->length;
    memcpy(t->data + t->length, bytes, length);
    t->length += (uint32_t)length;
}

static inline void text_string(struct text *t, const char *string) { text_bytes(t, string, strlen(string)); }

static inline void text_number(struct text *t, uint64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    text_bytes(t, digits + at, sizeof digits - at);
}

static inline void text_line(struct text *t, const char *key, uint64_t number) {
    text_string(t, key);
    text_bytes(t, " ", 1);
    text_number(t, number);
    text_bytes(t, "\n", 1);
}

// Reads the decimal number at the start of `string`; returns the character after it, or NULL.
static inline const char *parse_number(const char *string, uint64_t *number) {
    const char *at = string;
    uint64_t value = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return NULL;
        value = value * 10 + digit;
    }
    *number = value;
    return at == string ? NULL : at;
}

#endif
