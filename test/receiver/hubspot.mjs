#!/usr/bin/env node
//
// hubspot.mjs - stands for the parts of HubSpot's API that the recipe uses
//
//     node hubspot.mjs LOGFILE --token TOKEN
//
// POST /crm/v3/properties/contacts and POST /crm/v3/objects/contacts/batch/upsert,
// as their documentation has them: a bearer token, known properties only,
// values that are texts, an idProperty whose values are unique, and for a
// new contact one of email, firstname and lastname. The log has all contacts
// after each request.

import { parse, serve } from "./vendor.mjs";

const [log, , token] = process.argv.slice(2);
const properties = new Map(
    ["email", "firstname", "lastname", "phone", "company"].map((name) => [name, { name, hasUniqueValue: name === "email" }]),
);
const contacts = []; // each an object of its properties, and id

const refuse = (status, category, message) => [status, { status: "error", message, correlationId: "standin", category }];
const invalid = (message) => refuse(400, "VALIDATION_ERROR", message);

function createProperty(property) {
    for (const key of ["name", "label", "type", "fieldType", "groupName"])
        if (typeof property[key] !== "string") return invalid(`"${key}" is required`);
    if (!/^[a-z][a-z0-9_]*$/.test(property.name)) return invalid(`invalid name "${property.name}"`);
    if (property.type !== "string" || !["text", "textarea"].includes(property.fieldType))
        return invalid("only texts are made here");
    if (properties.has(property.name))
        return refuse(409, "OBJECT_ALREADY_EXISTS", `A property named '${property.name}' already exists.`);
    properties.set(property.name, { hasUniqueValue: false, ...property });
    return [201, { ...property, archived: false, createdAt: new Date().toISOString() }];
}

function upsert({ inputs }) {
    if (!Array.isArray(inputs) || inputs.length < 1 || inputs.length > 100) return invalid("inputs: 1 to 100");
    const ids = inputs.map((input) => input.id);
    if (new Set(ids).size !== ids.length) return invalid("Duplicate IDs found in batch input");

    for (const { id, idProperty, properties: values } of inputs) {
        if (typeof id !== "string" || id === "") return invalid("id is required");
        if (!properties.get(idProperty)?.hasUniqueValue) return invalid(`${idProperty} is not a unique property`);
        if (values === null || typeof values !== "object") return invalid("properties are required");
        for (const [name, value] of Object.entries(values)) {
            if (!properties.has(name)) return invalid(`Property "${name}" does not exist`);
            if (typeof value !== "string") return invalid(`${name}: a text is wanted`);
        }
        const present = contacts.some((contact) => contact[idProperty] === id);
        if (!present && !values.email && !values.firstname && !values.lastname)
            return invalid("one of email, firstname, lastname is required");
    }

    const results = inputs.map(({ id, idProperty, properties: values }) => {
        let contact = contacts.find((candidate) => candidate[idProperty] === id);
        const isNew = contact === undefined;
        if (isNew) contacts.push((contact = { id: String(contacts.length + 1), [idProperty]: id }));
        Object.assign(contact, values);
        const now = new Date().toISOString();
        return { id: contact.id, properties: values, new: isNew, archived: false, createdAt: now, updatedAt: now };
    });
    const now = new Date().toISOString();
    return [200, { status: "COMPLETE", results, startedAt: now, completedAt: now }];
}

function answer(request, body) {
    if (request.headers.authorization !== `Bearer ${token}`)
        return refuse(401, "INVALID_AUTHENTICATION", "Authentication credentials not found.");
    const routes = {
        "/crm/v3/properties/contacts": createProperty,
        "/crm/v3/objects/contacts/batch/upsert": upsert,
    };
    const route = routes[request.url];
    if (!route) return [404, "not found"];
    if (request.method !== "POST") return [405, "method not allowed"];
    if (!/^application\/json\b/.test(request.headers["content-type"] ?? ""))
        return refuse(415, "UNSUPPORTED_MEDIA_TYPE", "JSON is wanted");
    const value = parse(body);
    if (value === null || typeof value !== "object") return invalid("Invalid input JSON");
    return route(value);
}

serve(log, (request, body) => {
    const [status, said] = answer(request, body);
    return [status, said, { contacts }];
});
