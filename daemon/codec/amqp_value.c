/*
 * Values of field tables.
 */
#include <inttypes.h>
#include <math.h>

#include "base/json.h"
#include "codec/amqp.h"
#include "codec/base64.h"

const amqp_field_value_t *
amqp_wire_find(const amqp_table_t *t, const char *key)
{
	struct slice want = slice_of(key);

	for (int i = 0; i < t->num_entries; i++)
		if (slice_eq(amqp_wire_slice(t->entries[i].key), want))
			return &t->entries[i].value;
	return NULL;
}

static int
from_signed(int64_t n, uint64_t *ret)
{
	if (n < 0)
		return -ERANGE;
	*ret = (uint64_t)n;
	return 0;
}

static int
from_unsigned(uint64_t n, uint64_t *ret)
{
	*ret = n;
	return 0;
}

int
amqp_wire_to_u64(const amqp_field_value_t *v, uint64_t *ret)
{
	switch (v->kind) {
	case AMQP_FIELD_KIND_I8:
		return from_signed(v->value.i8, ret);
	case AMQP_FIELD_KIND_I16:
		return from_signed(v->value.i16, ret);
	case AMQP_FIELD_KIND_I32:
		return from_signed(v->value.i32, ret);
	case AMQP_FIELD_KIND_I64:
		return from_signed(v->value.i64, ret);
	case AMQP_FIELD_KIND_U8:
		return from_unsigned(v->value.u8, ret);
	case AMQP_FIELD_KIND_U16:
		return from_unsigned(v->value.u16, ret);
	case AMQP_FIELD_KIND_U32:
		return from_unsigned(v->value.u32, ret);
	case AMQP_FIELD_KIND_U64:
	case AMQP_FIELD_KIND_TIMESTAMP:
		return from_unsigned(v->value.u64, ret);
	case AMQP_FIELD_KIND_UTF8:
		return slice_to_u64(amqp_wire_slice(v->value.bytes), ret);
	default:
		return -EINVAL;
	}
}

static void
add_real(struct buffer *b, double x, int digits)
{
	if (isfinite(x))
		buffer_printf(b, "%.*g", digits, x);
	else
		buffer_add_str(b, "null");	/* JSON has no such number */
}

/* value / 10^decimals, exactly: "-12.05". */
static void
add_decimal(struct buffer *b, amqp_decimal_t d)
{
	int64_t n = (int32_t)d.value;
	char digits[24];
	size_t len = fmt_u64(digits, (uint64_t)(n < 0 ? -n : n));
	size_t decimals = d.decimals;

	if (n < 0)
		buffer_add_char(b, '-');
	if (decimals == 0) {
		buffer_add(b, digits, len);
		return;
	}
	if (len <= decimals) {
		buffer_add_str(b, "0.");
		for (size_t i = len; i < decimals; i++)
			buffer_add_char(b, '0');
		buffer_add(b, digits, len);
		return;
	}
	buffer_add(b, digits, len - decimals);
	buffer_add_char(b, '.');
	buffer_add(b, digits + len - decimals, decimals);
}

static void
add_bytes(struct buffer *b, struct slice s)
{
	buffer_add_char(b, '"');
	base64_add(b, s);
	buffer_add_char(b, '"');
}

static void
add_table(struct buffer *b, const amqp_table_t *t)
{
	buffer_add_char(b, '{');
	for (int i = 0; i < t->num_entries; i++) {
		if (i != 0)
			buffer_add_char(b, ',');
		json_add_string(b, amqp_wire_slice(t->entries[i].key));
		buffer_add_char(b, ':');
		amqp_wire_add_json(b, &t->entries[i].value);
	}
	buffer_add_char(b, '}');
}

static void
add_array(struct buffer *b, const amqp_array_t *a)
{
	buffer_add_char(b, '[');
	for (int i = 0; i < a->num_entries; i++) {
		if (i != 0)
			buffer_add_char(b, ',');
		amqp_wire_add_json(b, &a->entries[i]);
	}
	buffer_add_char(b, ']');
}

/* As deep as the decoder lets tables be. */
void
amqp_wire_add_json(struct buffer *b, const amqp_field_value_t *v)
{
	switch (v->kind) {
	case AMQP_FIELD_KIND_BOOLEAN:
		buffer_add_str(b, v->value.boolean ? "true" : "false");
		break;
	case AMQP_FIELD_KIND_I8:
		buffer_printf(b, "%d", v->value.i8);
		break;
	case AMQP_FIELD_KIND_I16:
		buffer_printf(b, "%d", v->value.i16);
		break;
	case AMQP_FIELD_KIND_I32:
		buffer_printf(b, "%" PRId32, v->value.i32);
		break;
	case AMQP_FIELD_KIND_I64:
		buffer_printf(b, "%" PRId64, v->value.i64);
		break;
	case AMQP_FIELD_KIND_U8:
		buffer_add_u64(b, v->value.u8);
		break;
	case AMQP_FIELD_KIND_U16:
		buffer_add_u64(b, v->value.u16);
		break;
	case AMQP_FIELD_KIND_U32:
		buffer_add_u64(b, v->value.u32);
		break;
	case AMQP_FIELD_KIND_U64:
	case AMQP_FIELD_KIND_TIMESTAMP:
		buffer_add_u64(b, v->value.u64);
		break;
	case AMQP_FIELD_KIND_F32:
		add_real(b, (double)v->value.f32, 9);
		break;
	case AMQP_FIELD_KIND_F64:
		add_real(b, v->value.f64, 17);
		break;
	case AMQP_FIELD_KIND_DECIMAL:
		add_decimal(b, v->value.decimal);
		break;
	case AMQP_FIELD_KIND_UTF8:
		json_add_string(b, amqp_wire_slice(v->value.bytes));
		break;
	case AMQP_FIELD_KIND_BYTES:
		add_bytes(b, amqp_wire_slice(v->value.bytes));
		break;
	case AMQP_FIELD_KIND_TABLE:
		add_table(b, &v->value.table);
		break;
	case AMQP_FIELD_KIND_ARRAY:
		add_array(b, &v->value.array);
		break;
	case AMQP_FIELD_KIND_VOID:
	default:
		buffer_add_str(b, "null");
		break;
	}
}
