// Package service calls microservices.
package service
