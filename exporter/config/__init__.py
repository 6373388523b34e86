"""The configuration: text and environment in, frozen settings or every fault out.

`document` reads the YAML, `fields` has the types that settings are made of, `schema` the settings themselves and
`load`. Providers and authentication bring their own settings, made of `fields`.
"""
